"""CLIP's image encoders as CLIP-ReID (Li et al. 2023) rebuilds them for person crops.

The towers are open_clip's; what differs is the surgery: a rectangular token grid with bilinearly
resized positions, the patch stride, RN50's last stride and its attention pool over all positions,
the token after block 11, and side information (SIE) on the class token. Parameters carry the names
of the authors' checkpoints (``image_encoder.*``, ``cv_embed``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError
from reid_train.data.cells import CellGrid
from reid_train.engine.checkpoint import load_strict
from reid_train.models.clip.blocks import asked, block, first_row
from reid_train.models.clip.package import AttentionPool2d, ModifiedResNet, VisionTransformer
from reid_train.models.clip.tags import activation_layer, check_sizes, tag_of, usual_activation
from reid_train.models.pretrained import visual_state
from reid_train.models.pyramid import token_map


def token_grid(
    input_size: tuple[int, int], *, patch: int = 16, stride: int = 16
) -> tuple[int, int]:
    """Rows and columns of patches, CLIP-ReID's formula: 256x128 gives 16x8, at stride 12 21x10."""
    height, width = input_size
    return (height - patch) // stride + 1, (width - patch) // stride + 1


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions of a square grid 1+S*S,D -> 1+h*w,D; the class (or mean) row is kept.

    Bilinear, align_corners False, no antialias, as CLIP-ReID does; open_clip's own resize is
    bicubic with antialias and gives other features.
    """
    side = round((len(positions) - 1) ** 0.5)
    if side * side != len(positions) - 1:
        raise ValueError(f"{len(positions)} positions are not a square grid and one class row")
    first, square = positions[:1], positions[1:].view(1, side, side, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=grid, mode="bilinear", align_corners=False)
    return torch.cat([first, resized.flatten(2)[0].T])  # 1+h*w,D


def load_tower(
    tower: nn.Module, state: dict[str, Tensor], positions: str, grid: tuple[int, int], source: str
) -> None:
    """Load an image tower; its entry ``positions``, a square in the file, is resized to ``grid``.
    One that was tuned on images of this very grid keeps its own.

    Raises ReidpipeError naming what is missing, unknown or of another shape.
    """
    if positions in state:
        count = len(state[positions]) - 1
        if math.isqrt(max(count, 0)) ** 2 == count:
            state[positions] = resize_positions(state[positions], grid)
        elif count != grid[0] * grid[1]:
            raise ReidpipeError(
                f"found {count + 1} positions in {source}; expected those of a square grid, or of "
                f"{grid[0]}x{grid[1]} patches, and the class row; give CLIP's own file, or type "
                "--set input.size of the images it was tuned on"
            )
    load_strict(tower, state, source=f"{source} under 'visual.'")


class Tokens(NamedTuple):
    """What the authors' encoder returns: ``last`` before the final stage, ``final`` after it, and
    ``projected`` into the image-text space. ViT: N,1+T,768 (raw, after ``ln_post``) and N,1+T,512,
    class token first. RN50: maps N,1024,h,w and N,2048,h,w, and N,1+T,1024, pooled token first.
    ``levels``: maps N,C,h,w that a fusion head reads. ViT: the patch tokens of ``final``; RN50: the
    maps after layer1 to layer3, at strides 4, 8 and 16.
    """

    last: Tensor
    final: Tensor
    projected: Tensor
    levels: list[Tensor]


class Features(dict[str, Tensor]):
    """Named features of images, each N,D. ``levels``, the maps N,C,h,w that a fusion head reads,
    are made when they are asked for: nothing else needs them.
    """

    def __init__(
        self,
        last: Tensor,
        feature: Tensor,
        projected: Tensor,
        levels: Callable[[], list[Tensor]],
    ) -> None:
        super().__init__(last=last, feature=feature, projected=projected)
        self["embedding"] = torch.cat([feature, projected], dim=1)
        self._levels = levels

    def __missing__(self, name: str) -> Any:
        if name != "levels":
            raise KeyError(name)
        levels: Any = self._levels()
        self[name] = levels
        return levels


class ClipVit(nn.Module):
    """CLIP's ViT, B/16 by default: normalised images N,3,H,W -> ``last`` N,768 (class token after
    the last block but one, raw), ``feature`` N,768 (after ``ln_post``), ``projected`` N,512 and
    ``embedding`` N,1280, their retrieval feature.

    ``stride`` 12 gives the overlapping patches (OLP). With ``cameras`` or ``views`` above 0 a table
    ``cv_embed`` is added to the class token before the positions, ``sie_coefficient`` times (1 in
    every published run; TransReID adds to all tokens, CLIP-ReID does not). The index is the camera,
    the view, or camera * views + view. Without ids nothing is added: that is how the authors take
    stage-1 features. ``pretrained`` is "none", "openai", "open_clip:ARCH/TAG" or a CLIP file of
    ``architecture`` (``weights`` is the folder of OpenAI's downloads). ``activation`` is
    "quick_gelu" or "gelu"; None: what the weights were trained with, which ``settled`` then keeps
    for the model's description where nothing else says so. ``colours`` as in ``TimmTrunk``, of a
    tag. The smaller ``width``, ``layers``, ``heads`` serve tests and tiny recipes.
    """

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (256, 128),
        stride: int = 16,
        patch: int = 16,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        mlp_ratio: float = 4.0,
        output_dim: int = 512,
        architecture: str = "ViT-B-16",
        activation: str | None = None,
        cameras: int = 0,
        views: int = 0,
        sie_coefficient: float = 1.0,
        pretrained: str = "none",
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "layers": layers, "heads": heads, "patch": patch}
        sizes |= {"mlp_ratio": mlp_ratio, "output_dim": output_dim}
        self.colours = _fitting(pretrained, sizes)
        self.activation = activation or usual_activation(architecture, pretrained)
        self.settled = {}
        if activation is None and self.activation != usual_activation(architecture, "none"):
            self.settled = {"activation": self.activation}
        self.patch, self.stride = patch, stride
        self.grid = grid = token_grid(input_size, patch=patch, stride=stride)
        self.level_dims = (width,)
        self.feature_dims = {
            "last": width,
            "feature": width,
            "projected": output_dim,
            "embedding": width + output_dim,
        }
        # open_clip lays out H//patch x W//patch positions: ask for the size that gives our grid
        self.image_encoder = VisionTransformer(
            image_size=(grid[0] * patch, grid[1] * patch),  # type: ignore[arg-type]
            patch_size=patch,
            width=width,
            layers=layers,
            heads=heads,
            mlp_ratio=mlp_ratio,
            output_dim=output_dim,
            act_layer=activation_layer(self.activation),
        )
        self.image_encoder.conv1.stride = (stride, stride)
        if pretrained != "none":
            state = visual_state(pretrained, architecture, weights=weights)
            load_tower(self.image_encoder, state, "positional_embedding", grid, pretrained)
        self.cameras, self.views, self.sie_coefficient = cameras, views, sie_coefficient
        if cameras or views:
            self.cv_embed = nn.Parameter(torch.empty(max(cameras, 1) * max(views, 1), width))
            nn.init.trunc_normal_(self.cv_embed, std=0.02)

    def _side_information(self, camids: Tensor | None, views: Tensor | None) -> Tensor | None:
        if not (self.cameras or self.views):
            return None
        if (self.cameras and camids is None) or (self.views and views is None):
            return None
        index = camids if self.cameras else views
        if self.cameras and self.views:
            assert camids is not None and views is not None
            index = camids * self.views + views
        return self.sie_coefficient * self.cv_embed[index]  # N,width

    def _last(self, x: Tensor, camids: Tensor | None, views: Tensor | None) -> Tensor:
        """Tokens N,1+T,width after the last block but one."""
        encoder = self.image_encoder
        patches = encoder.conv1(x).flatten(2).transpose(1, 2)  # N,T,width
        token = encoder.class_embedding.to(patches.dtype).expand(len(x), 1, -1)
        side = self._side_information(camids, views)
        if side is not None:
            token = token + side.to(patches.dtype)[:, None]
        tokens = torch.cat([token, patches], dim=1) + encoder.positional_embedding
        tokens = encoder.ln_pre(tokens)
        for module in encoder.transformer.resblocks[:-1]:
            tokens, _ = block(module, tokens)
        return tokens

    def _final(self, last: Tensor) -> Tensor:
        """Those tokens after the last block and its norm, N,1+T,width."""
        encoder = self.image_encoder
        return encoder.ln_post(block(encoder.transformer.resblocks[-1], last)[0])

    def _projected(self, final: Tensor) -> Tensor:
        projection = self.image_encoder.proj
        assert projection is not None
        return final @ projection

    def _levels(self, final: Tensor) -> list[Tensor]:
        return [token_map(final[:, 1:], self.grid)]

    def tokens(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> Tokens:
        """All of them, after every stage."""
        last = self._last(x, camids, views)
        final = self._final(last)
        return Tokens(last, final, self._projected(final), self._levels(final))

    def cells(self, input_size: tuple[int, int]) -> CellGrid:
        """Which pixels each position of the token grid shows."""
        return CellGrid.tokens(input_size, patch=self.patch, stride=self.stride)

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        encoder, last = self.image_encoder, self._last(x, camids, views)
        final = encoder.ln_post(first_row(encoder.transformer.resblocks[-1], last))
        return Features(
            last[:, 0], final, self._projected(final), lambda: self._levels(self._final(last))
        )


class DensePool(AttentionPool2d):
    """CLIP's attention pool over a map N,C,h,w -> N,1+h*w,D; row 0 is the pooled feature (the query
    is the mean token), the rest are the projected positions.

    ``positions`` says how those are projected. "attention": every position is a query too, as
    CLIP-ReID does. "value": the value of the position alone, nothing gathered from the others
    (Zhou et al. 2022, Extract Free Dense Labels from CLIP, section 3.2; there without the
    positional embedding). CLIP's own training has the mean token as its only query: how much a
    position that asks keeps of its place is left to chance.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        embed_dim: int,
        num_heads: int,
        output_dim: int,
        *,
        positions: str = "attention",
    ) -> None:
        if positions not in ("attention", "value"):
            raise ReidpipeError(
                f"found positions '{positions}'; expected attention or value; "
                "type --set model.options.positions=value"
            )
        super().__init__(1, embed_dim, num_heads, output_dim)
        self.positions = positions
        count = grid[0] * grid[1] + 1
        self.positional_embedding = nn.Parameter(torch.randn(count, embed_dim) / embed_dim**0.5)

    def _positions(self, x: Tensor) -> Tensor:
        """Map N,C,h,w -> N,1+h*w,C: its mean, then its positions, each with its embedding."""
        x = x.flatten(2).transpose(1, 2)
        return torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding

    def pooled(self, x: Tensor) -> Tensor:
        """Row 0 of ``forward`` alone, N,D: its key and value projections are not computed."""
        positions = self._positions(x)
        attended = asked(
            self.q_proj(positions[:, 0]),
            positions,
            (self.k_proj.weight, self.v_proj.weight),
            (self.k_proj.bias, self.v_proj.bias),
            heads=self.num_heads,
        )
        return self.c_proj(attended)

    def forward(self, x: Tensor) -> Tensor:
        x = self._positions(x)
        count, length, _ = x.shape
        query, key, value = (
            layer(x)
            .view(count, length, self.num_heads, -1)
            .transpose(1, 2)  # N,heads,1+h*w,C/heads
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.positions == "value":
            pooled = F.scaled_dot_product_attention(query[:, :, :1], key, value)
            attended = torch.cat([pooled, value[:, :, 1:]], dim=2)
        else:
            attended = F.scaled_dot_product_attention(query, key, value)
        return self.c_proj(attended.transpose(1, 2).reshape(count, length, -1))


class ClipResNet(nn.Module):
    """CLIP's ResNet, the 50 by default, with last stride 1: normalised images N,3,H,W -> ``last``
    N,1024 and ``feature`` N,2048 (means of the layer3 and layer4 maps), ``projected`` N,1024
    (attention pool) and ``embedding`` N,3072, the retrieval feature of CLIP-ReID. Cameras and views
    are ignored, as in the authors' code. ``pretrained``, ``weights`` and ``architecture`` as in
    :class:`ClipVit`; ``positions`` as in :class:`DensePool`: of frozen features of parts, no other
    output depends on it [choice].
    """

    def __init__(
        self,
        *,
        input_size: tuple[int, int] = (256, 128),
        layers: tuple[int, int, int, int] = (3, 4, 6, 3),
        width: int = 64,
        heads: int = 32,
        output_dim: int = 1024,
        architecture: str = "RN50",
        positions: str = "attention",
        pretrained: str = "none",
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "layers": tuple(layers), "heads": heads, "output_dim": output_dim}
        self.colours = _fitting(pretrained, sizes)
        self.grid = grid = token_grid(input_size)
        final = width * 32
        self.level_dims = (final // 8, final // 4, final // 2)
        self.feature_dims = {
            "last": final // 2,
            "feature": final,
            "projected": output_dim,
            "embedding": final + output_dim,
        }
        encoder = ModifiedResNet(list(layers), output_dim, heads, width=width)
        # stride 1: nothing is pooled away, no parameter changes
        block = encoder.layer4[0]
        block.add_module("avgpool", nn.Identity())
        block.get_submodule("downsample").add_module("-1", nn.Identity())
        encoder.attnpool = DensePool(grid, final, heads, output_dim, positions=positions)
        encoder.init_parameters()
        self.image_encoder = encoder
        if pretrained != "none":
            state = visual_state(pretrained, architecture, weights=weights)
            load_tower(encoder, state, "attnpool.positional_embedding", grid, pretrained)

    def _maps(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps after layer1 to layer3, and after layer4."""
        encoder = self.image_encoder
        first = encoder.layer1(encoder.stem(x))
        second = encoder.layer2(first)
        last = encoder.layer3(second)
        return [first, second, last], encoder.layer4(last)

    def tokens(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> Tokens:
        """All of them, after every stage."""
        del camids, views
        levels, final = self._maps(x)
        return Tokens(levels[-1], final, self.image_encoder.attnpool(final), levels)

    def cells(self, input_size: tuple[int, int]) -> CellGrid:
        """Which pixels each position of the token grid shows."""
        return CellGrid.even(input_size, self.grid)

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        del camids, views
        levels, final = self._maps(x)
        pool = self.image_encoder.attnpool
        assert isinstance(pool, DensePool)
        projected = pool.pooled(final)
        return Features(levels[-1].mean((2, 3)), final.mean((2, 3)), projected, lambda: levels)


def _fitting(pretrained: str, sizes: dict[str, Any]) -> tuple[tuple[float, ...], ...] | None:
    """Mean and std of the images that a tag of open_clip has seen; None for any other start.
    Raises ReidpipeError when its tower has other sizes.
    """
    tag = tag_of(pretrained)
    if tag is None:
        return None
    check_sizes(tag, sizes, "image")
    return tag.mean, tag.std
