"""The COL780 networks BigNet, SliceNet1 and SliceNet2: residual nets after Wojke & Bewley (2018).

Module names are those of the published files (``conv_1.0``, ``residual_6.conv_up``,
``dense_10.2``): a checkpoint needs no renaming beyond the classifier, which lives in ``heads``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.models.dropout import Dropout


def _pad_same(x: Tensor) -> Tensor:
    """One zero column right, one zero row below: TensorFlow's "SAME" for even sizes."""
    return F.pad(x, (0, 1, 0, 1))


class Residual(nn.Module):
    """Pre-activation residual block: N,C,H,W -> N,out,H,W (H/2, W/2 when the width grows).

    The shortcut is the raw input (or its 1x1 convolution of stride 2), not the activated one, and
    nothing follows the sum.
    """

    def __init__(self, width: int, out: int, *, first: bool = False, dropout: float = 0.4) -> None:
        super().__init__()
        self.halves = out != width
        self.first = first
        if self.halves:
            self.conv_up = nn.Conv2d(width, out, 1, stride=2)
        if not first:
            self.bn_0 = nn.Sequential(nn.BatchNorm2d(width), nn.ELU(inplace=True))
        stride, padding = (2, 0) if self.halves else (1, 1)
        self.conv_1 = nn.Sequential(
            nn.Conv2d(width, out, 3, stride=stride, padding=padding),
            nn.BatchNorm2d(out),
            nn.ELU(inplace=True),
            Dropout(dropout),
        )
        self.conv_2 = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.first else self.bn_0(x)
        if self.halves:
            return self.conv_2(self.conv_1(_pad_same(y))) + self.conv_up(x)
        return self.conv_2(self.conv_1(y)) + x


class ResidualTrunk(nn.Module):
    """The part all three networks share: normalised images N,3,H,W -> map N,128,H/8,W/8 (705,120
    parameters with no dense layer). H and W must be multiples of 8.
    """

    width = 128

    def __init__(self, *, dropout: float = 0.4) -> None:
        super().__init__()
        self.conv_1 = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ELU(inplace=True)
        )
        self.conv_2 = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ELU(inplace=True)
        )
        self.pool_3 = nn.MaxPool2d(3, stride=2)
        self.residual_4 = Residual(32, 32, first=True, dropout=dropout)
        self.residual_5 = Residual(32, 32, dropout=dropout)
        self.residual_6 = Residual(32, 64, dropout=dropout)
        self.residual_7 = Residual(64, 64, dropout=dropout)
        self.residual_8 = Residual(64, 128, dropout=dropout)
        self.residual_9 = Residual(128, 128, dropout=dropout)

    def map(self, x: Tensor) -> Tensor:
        # The pad value is 0 although ELU outputs reach -1: the authors' networks were trained so.
        x = self.pool_3(_pad_same(self.conv_2(self.conv_1(x))))
        x = self.residual_5(self.residual_4(x))
        x = self.residual_7(self.residual_6(x))
        return self.residual_9(self.residual_8(x))


def _dense(size: int, dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        Dropout(dropout),
        nn.Linear(size, dim),
        nn.BatchNorm1d(dim),
        nn.ELU(inplace=True),
    )


def _map_size(input_size: tuple[int, int], slices: int) -> tuple[int, int]:
    """Size of the residual map; ``ValueError`` when the image does not divide into it."""
    height, width = input_size
    if height % (8 * slices) or width % 8:
        raise ValueError(
            f"input size {height}x{width} does not divide: height must be a multiple of "
            f"{8 * slices} and width of 8"
        )
    return height // 8, width // 8


class BigNet(ResidualTrunk):
    """Trunk, dense layer, L2 norm: normalised images N,3,H,W -> ``embedding`` N,dim of norm 1.

    2,286,305 parameters at 128x48 with the cosine classifier of 62 classes (k included).
    """

    def __init__(
        self, *, input_size: tuple[int, int] = (128, 48), dim: int = 128, dropout: float = 0.4
    ) -> None:
        super().__init__(dropout=dropout)
        height, width = _map_size(input_size, 1)
        self.feature_dims = {"embedding": dim}
        self.dense_10 = _dense(self.width * height * width, dim, dropout)

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        del camids, views
        return {"embedding": F.normalize(self.dense_10(self.map(x)))}


class SliceNet1(nn.Module):
    """One BigNet shared by ``slices`` horizontal strips of the image -> ``embedding`` N,slices*dim.

    Each strip's feature has norm 1 and the concatenation is not normalised again: its norm is
    sqrt(slices), 2 for four strips, so the classifier's logits are 2 k cos. In training every
    batch-norm sees one strip at a time, as in the authors' loop (``slices`` updates per step).
    811,457 parameters with the cosine classifier of 62 classes, 811,518 with the weight-normed one.
    """

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (128, 48),
        slices: int = 4,
        dim: int = 32,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        _map_size(input_size, slices)
        height, width = input_size
        self.slices = slices
        self.feature_dims = {"embedding": slices * dim}
        self.bignet = BigNet(input_size=(height // slices, width), dim=dim, dropout=dropout)

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        del camids, views
        strips = [self.bignet(strip)["embedding"] for strip in x.chunk(self.slices, dim=2)]
        return {"embedding": torch.cat(strips, dim=1)}  # N,slices*dim


class SliceNet2(nn.Module):
    """Trunk on the whole image, its map cut into strips that share one dense layer, one L2 norm:
    normalised images N,3,H,W -> ``embedding`` N,slices*dim of norm 1.

    As in the authors' code the dense layer's batch-norm runs once per strip. Same parameter counts
    as :class:`SliceNet1`.
    """

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (128, 48),
        slices: int = 4,
        dim: int = 32,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        height, width = _map_size(input_size, slices)
        self.slices = slices
        self.bignet = ResidualTrunk(dropout=dropout)
        self.feature_dims = {"embedding": slices * dim}
        self.dense_10 = _dense(ResidualTrunk.width * height * width // slices, dim, dropout)

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        del camids, views
        strips = [self.dense_10(strip) for strip in self.bignet.map(x).chunk(self.slices, dim=2)]
        return {"embedding": F.normalize(torch.cat(strips, dim=1))}  # N,slices*dim
