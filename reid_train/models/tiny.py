"""A small residual network that trains on two CPU cores in minutes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.models.heads import BNNeck


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, post-activation, N,C,H,W -> N,out,H/stride,W/stride."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Identity()
        if stride != 1 or width != out:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class Tiny(nn.Module):
    """Normalised images N,3,H,W -> ``global`` N,dim (before the neck) and ``embedding`` N,dim
    (after it), for demonstrations: no published network.

    Stride 16 in the end (128x64 gives an 8x4 map). The map is averaged over ``stripes`` horizontal
    bands, since where a colour is matters as much as which, and projected to ``dim``.
    """

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (128, 64),
        widths: tuple[int, ...] = (24, 48, 96),
        stripes: int = 4,
        dim: int = 128,
    ) -> None:
        super().__init__()
        del input_size  # any size with at least 16*stripes rows works
        self.feature_dims = {"global": dim, "embedding": dim}
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 5, stride=4, padding=2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        blocks = [_Block(widths[0], widths[0], 1)]
        blocks += [_Block(a, b, 2) for a, b in zip(widths, widths[1:], strict=False)]
        self.blocks = nn.Sequential(*blocks)
        self.stripes = stripes
        self.project = nn.Linear(widths[-1] * stripes, dim, bias=False)
        self.neck = BNNeck(dim)

    def map(self, x: Tensor) -> Tensor:
        """Normalised images N,3,H,W -> N,C,H/16,W/16."""
        return self.blocks(self.stem(x))

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        del camids, views
        bands = F.adaptive_avg_pool2d(self.map(x), (self.stripes, 1))  # N,C,stripes,1
        feature = self.project(bands.flatten(1))
        return {"global": feature, "embedding": self.neck(feature)}
