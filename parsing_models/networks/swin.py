"""SOLIDER's Swin backbone with its semantic controller (Liu et al. 2021; Chen et al. 2023).

Written for the names of the published checkpoints (mmcv's). It differs from the usual Swin in
three ways: the last merging keeps the resolution, maps are padded to whole windows after the
norm, and the streams between stages are scaled and shifted by the semantic weight.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.checkpoint import extent_of

WINDOW = 7
SHIFT = 3
MASKED = -100.0
EPS = 1e-5
RATIO = 4
# Of the patches and the three mergings: stages at 1/4, 1/8, 1/16 and 1/16 of the input.
STRIDES = (4, 2, 2, 1)


@dataclass(frozen=True)
class SwinSizes:
    """dim: channels of the first stage; depths, heads: of the four. The defaults are Swin-T's."""

    dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> SwinSizes:
        """Read the sizes off a state dict; what it does not tell keeps its default."""
        default = cls()
        blocks: list[set[str]] = [set(), set(), set(), set()]
        heads = list(default.heads)
        for key in state:
            if match := re.match(r"stages\.([0-3])\.blocks\.(\d+)\.", key):
                blocks[int(match[1])].add(match[2])
                if key.endswith("relative_position_bias_table"):
                    heads[int(match[1])] = extent_of(state, key, 1, heads[int(match[1])])
        return cls(
            extent_of(state, "patch_embed.projection.weight", 0, default.dim),
            tuple(len(stage) for stage in blocks) if all(blocks) else default.depths,
            tuple(heads),
        )

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Channels of the four outputs."""
        return (self.dim, 2 * self.dim, 4 * self.dim, 8 * self.dim)


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """N,C,H,W with zeros below and to the right, so that the last window is a whole one."""
    missing = [(math.ceil(n / stride) - 1) * stride + kernel - n for n in x.shape[-2:]]
    height, width = (max(0, each) for each in missing)
    return F.pad(x, (0, width, 0, height)) if height or width else x


class PatchEmbed(nn.Module):
    """N,3,H,W -> N,H/4,W/4,C (rounded up)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, dim, STRIDES[0], STRIDES[0])
        self.norm = nn.LayerNorm(dim, EPS)

    def forward(self, images: Tensor) -> Tensor:
        x = self.projection(_padded(images, STRIDES[0], STRIDES[0]))
        return self.norm(x.permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Every 2 x 2 cells in steps of ``stride``: N,H,W,C -> N,H/stride,W/stride,2C (rounded up).

    The channels of the four cells interleave (c, row, column), as ``unfold`` gives them: not the
    order of other Swins, whose files need a permutation here.
    """

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.norm = nn.LayerNorm(4 * dim, EPS)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (math.ceil(n / self.stride) for n in x.shape[1:3])
        x = _padded(x.permute(0, 3, 1, 2), 2, self.stride)
        cells = F.unfold(x, 2, stride=self.stride).transpose(1, 2)  # N,HW,4C
        return self.reduction(self.norm(cells)).unflatten(1, (height, width))


def relative_position_index() -> Tensor:
    """int64 49,49: the row of the bias table for a query and a key of one window, by the
    difference of their cells: 13 (dy + 6) + dx + 6."""
    cells = torch.arange(WINDOW**2)
    dy, dx = (
        along[:, None] - along[None] + WINDOW - 1 for along in (cells // WINDOW, cells % WINDOW)
    )
    return (2 * WINDOW - 1) * dy + dx


class WindowAttention(nn.Module):
    """Attention inside windows: N,G,49,C (G windows an image) -> same.

    mask: G,49,49, added to the scores; None where every pair of cells may meet.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        table = torch.zeros((2 * WINDOW - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", relative_position_index())
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        split = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # N,G,49,3,heads,C/heads
        query, key, value = split.permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.permute(2, 0, 1)[None]  # 1,heads,49,49
        if mask is not None:
            bias = bias + mask[:, None]
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return self.proj(x.transpose(2, 3).flatten(3))


class ShiftedWindows(nn.Module):
    """Window attention over a map N,H,W,C, its windows shifted by 3 cells in every second block.

    Cells that pad the map to whole windows hold zeros and take part like any other, and a map of
    a single window is shifted too: both as in the authors' code.
    """

    def __init__(self, dim: int, heads: int, *, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.w_msa = WindowAttention(dim, heads)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        if self.shifted:
            x = x.roll((-SHIFT, -SHIFT), (1, 2))
        rows, columns = x.shape[1] // WINDOW, x.shape[2] // WINDOW
        windows = x.unflatten(1, (rows, WINDOW)).unflatten(3, (columns, WINDOW))
        windows = windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # N,G,49,C
        windows = self.w_msa(windows, mask if self.shifted else None)
        x = windows.unflatten(1, (rows, columns)).unflatten(3, (WINDOW, WINDOW))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if self.shifted:
            x = x.roll((SHIFT, SHIFT), (1, 2))
        return x[:, :height, :width]


def shift_mask(height: int, width: int) -> Tensor:
    """G,49,49 for a map of that size: -100 where a shifted window joins cells from opposite
    borders, else 0."""
    whole = [n + -n % WINDOW for n in (height, width)]
    bands = [torch.zeros(n, dtype=torch.long) for n in whole]
    for band in bands:
        band[-WINDOW:-SHIFT] = 1
        band[-SHIFT:] = 2
    regions = 3 * bands[0][:, None] + bands[1][None]
    regions = regions.unflatten(1, (-1, WINDOW)).unflatten(0, (-1, WINDOW))
    regions = regions.transpose(1, 2).flatten(2).flatten(0, 1)  # G,49
    return (regions[:, :, None] != regions[:, None]) * MASKED


class FeedForward(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = nn.Sequential(nn.Linear(dim, RATIO * dim), nn.GELU())
        self.layers = nn.Sequential(inner, nn.Linear(RATIO * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each on the normalised stream and added to it."""

    def __init__(self, dim: int, heads: int, *, shifted: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, EPS)
        self.attn = ShiftedWindows(dim, heads, shifted=shifted)
        self.norm2 = nn.LayerNorm(dim, EPS)
        self.ffn = FeedForward(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        return x + self.ffn(self.norm2(x))


class SwinStage(nn.Module):
    """Blocks at one resolution, then the merging towards the next (None at the end)."""

    def __init__(self, dim: int, depth: int, heads: int, *, stride: int | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(dim, heads, shifted=number % 2 == 1) for number in range(depth)
        )
        self.downsample = None if stride is None else PatchMerging(dim, stride)

    def forward(self, x: Tensor) -> Tensor:
        mask = shift_mask(x.shape[1], x.shape[2]).to(x)
        for block in self.blocks:
            x = block(x, mask)
        return x


class Swin(nn.Module):
    """``features(images N,3,H,W)`` -> four maps N,C,h,w, at 1/4, 1/8, 1/16 and 1/16 (rounded up).

    semantic_weight: lambda in 0..1, how much meaning rather than appearance the features hold
    (SOLIDER, section 3.3); the stream into stages 2, 3 and 4 is scaled by softplus(w) and shifted
    by b, linear functions of (lambda, 1 - lambda). Negative: left as it is. It belongs to the
    weights, so the state dict holds it (float32, no dimensions); the authors' files do not.

    The fourth pair of linear functions is in the files and reads into nothing; it does not train.
    No stochastic depth: the authors' parsers are built with a rate of 0.
    """

    semantic_weight: Tensor

    def __init__(self, sizes: SwinSizes | None = None, *, semantic_weight: float) -> None:
        super().__init__()
        sizes = sizes or SwinSizes()
        self.sizes = sizes
        widths = sizes.widths
        self.register_buffer("semantic_weight", torch.tensor(float(semantic_weight)))
        self.patch_embed = PatchEmbed(sizes.dim)
        self.stages = nn.ModuleList(
            SwinStage(
                widths[i],
                sizes.depths[i],
                sizes.heads[i],
                stride=STRIDES[i + 1] if i < 3 else None,
            )
            for i in range(4)
        )
        for i in range(4):
            self.add_module(f"norm{i}", nn.LayerNorm(widths[i], EPS))
        after = (*widths[1:], widths[3])
        self.semantic_embed_w = nn.ModuleList(nn.Linear(2, width) for width in after)
        self.semantic_embed_b = nn.ModuleList(nn.Linear(2, width) for width in after)
        self.semantic_embed_w[3].requires_grad_(False)
        self.semantic_embed_b[3].requires_grad_(False)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.patch_embed(images)
        maps = []
        for i, stage in enumerate(self.stages):
            assert isinstance(stage, SwinStage)
            x = stage(x)
            maps.append(self.get_submodule(f"norm{i}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = self._controlled(stage.downsample(x), i)
        return maps[0], maps[1], maps[2], maps[3]

    def _controlled(self, x: Tensor, stage: int) -> Tensor:
        semantic = self.semantic_weight
        given = torch.stack([semantic, 1 - semantic])
        scale = F.softplus(self.semantic_embed_w[stage](given))
        shift = self.semantic_embed_b[stage](given)
        # Decided on the device: a branch would wait for it.
        disabled = semantic < 0
        return x * scale.masked_fill(disabled, 1) + shift.masked_fill(disabled, 0)
