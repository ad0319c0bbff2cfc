"""Fusion heads of hierarchical alignment (pi-VL, arXiv 2308.02738): training only, never exported.

Each takes a list of feature maps N,C,h,w and gives one dense map N,D,H/8,W/8 that the alignment
loss compares with texts about parts. The paper gives two equations (v1 eq. 9, 10) and no code;
what it leaves open is marked [choice].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def fused_grid(input_size: tuple[int, int], *, stride: int = 8) -> tuple[int, int]:
    """Rows and columns of the fused map: 256x128 gives 32x16."""
    return input_size[0] // stride, input_size[1] // stride


def token_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patch tokens N,T,C (no class token), row by row -> map N,C,h,w."""
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(f"{tokens.shape[1]} tokens; expected {grid[0]}x{grid[1]}, no class token")
    return tokens.transpose(1, 2).unflatten(2, grid)


def resample(
    maps: Tensor,
    grid: tuple[int, int],
    *,
    spans: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 1.0), (0.0, 1.0)),
) -> Tensor:
    """Maps N,C,h,w -> N,C,grid: per axis the mean over each target cell where the target is
    coarser, linear interpolation between cell centres where it is finer. Border cells extend
    outwards.

    For whole factors this is average pooling, identity, and bilinear interpolation with
    align_corners False. ``spans``: per axis where the source's first cell begins and its last ends,
    in units of the area that ``grid`` covers; other than (0, 1) for overlapping patches. One matrix
    per axis: deterministic on every device, backward too.
    """
    operators = [
        _operator(target, source, *span, maps)
        for target, source, span in zip(grid, maps.shape[2:], spans, strict=True)
    ]
    if operators == [None, None]:
        return maps
    count, channels, height, width = maps.shape
    rows, columns = operators
    x = maps.permute(0, 2, 3, 1)  # as convolutions leave it: products with long rows, no copy
    if rows is not None:
        x = _products(rows, x.reshape(count, height, -1)).unflatten(2, (width, channels))
    if columns is not None:
        x = _products(columns, x.reshape(-1, width, channels)).unflatten(0, (count, -1))
    return x.permute(0, 3, 1, 2)


def _products(operator: Tensor, x: Tensor) -> Tensor:
    """A,B times each of N,B,C -> N,A,C."""
    return torch.bmm(operator.expand(len(x), -1, -1), x)


def _operator(target: int, source: int, start: float, end: float, like: Tensor) -> Tensor | None:
    """target,source weights of one axis whose rows sum to 1; None for the identity."""
    if target == source and (start, end) == (0.0, 1.0):
        return None
    # In units of source cells; double on the CPU: other devices may have none.
    size = source / (end - start)
    edges = (torch.arange(target + 1, dtype=torch.float64) / target - start) * size
    cells = torch.arange(source, dtype=torch.float64)
    width = size / target
    if width <= 1:
        centres = ((edges[:-1] + edges[1:]) / 2 - 0.5).clamp(0, source - 1)
        weights = (1 - (centres[:, None] - cells).abs()).clamp(min=0)
    else:
        first, last = cells.clone(), cells + 1
        first[0], last[-1] = -torch.inf, torch.inf
        overlap = torch.minimum(edges[1:, None], last) - torch.maximum(edges[:-1, None], first)
        weights = overlap.clamp(min=0) / width
    return weights.to(like)


class ConvFusion(nn.Module):
    """Maps of a convolutional trunk at several strides -> one map N,D,grid (v1 eq. 9, 10).

    A 1x1 convolution per level, resampling to ``grid`` (average pooling, identity, bilinear), the
    sum; ``fuse="conv3x3"`` adds a 3x3 convolution [choice; default "sum"]. For CLIP's RN50 the
    levels are layer1 to layer3 (256, 512, 1024 channels at strides 4, 8, 16), the paper's conv2 to
    conv4; any trunk with other channels and strides does, MobileNetV2 for one.

    The paper writes "1x1 depth-wise convolution", which cannot change the number of channels:
    these are point-wise. A level finer than ``grid`` is pooled before its convolution: both are
    linear, so the result is that of the paper's order, at a quarter of the cost.
    """

    def __init__(
        self, *, channels: Sequence[int], dim: int, grid: tuple[int, int], fuse: str = "sum"
    ) -> None:
        super().__init__()
        if fuse not in ("sum", "conv3x3"):
            raise ValueError(f"fuse is {fuse!r}; it must be one of ['conv3x3', 'sum']")
        self.grid = grid
        self.laterals = nn.ModuleList(nn.Conv2d(count, dim, 1) for count in channels)
        self.fuse = nn.Conv2d(dim, dim, 3, padding=1) if fuse == "conv3x3" else nn.Identity()

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """levels: N,C_k,h_k,w_k in the order of ``channels``."""
        _expect(levels, len(self.laterals))
        fused = []
        for lateral, level in zip(self.laterals, levels, strict=True):
            finer = level.shape[2] * level.shape[3] > self.grid[0] * self.grid[1]
            fused.append(
                lateral(resample(level, self.grid))
                if finer
                else resample(lateral(level), self.grid)
            )
        return self.fuse(sum(fused[1:], fused[0]))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map N,C,h,w, at every position by itself."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Doubling(nn.ConvTranspose2d):
    """A 2x2 deconvolution with stride 2, N,C,h,w -> N,D,2h,2w. Its outputs do not overlap: it is
    one matrix product, laid out anew, and computed as such. Parameters are torch's.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 2, stride=2)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        del output_size
        count, channels, height, width = input.shape
        rows = input.permute(0, 2, 3, 1).reshape(-1, channels)
        product = rows @ self.weight.permute(0, 2, 3, 1).reshape(channels, -1)
        split = product.view(count, height, width, 2, 2, -1).transpose(2, 3)
        assert self.bias is not None
        out = split.reshape(count, 2 * height, 2 * width, -1)
        return (out + self.bias).permute(0, 3, 1, 2)


class _OfTokens(nn.Module):
    """Maps made from the one map of a ViT's tokens N,width,h,w, brought to ``grid`` where their
    cells lie on the image.

    With overlapping patches (``stride`` 12: 21x10 tokens over 256x128) tokens stand where their
    patches' centres are, at 12 i + 8 pixels, and are resampled from there; ``input_size`` is needed
    for that, and only for that.
    """

    def __init__(
        self, grid: tuple[int, int], input_size: tuple[int, int], patch: int, stride: int
    ) -> None:
        super().__init__()
        self.grid, self.input_size, self.patch, self.stride = grid, input_size, patch, stride

    def _placed(self, level: Tensor, scale: float) -> Tensor:
        begin = (self.patch - self.stride) / 2
        (top, bottom), (left, right) = (
            (begin / pixels, (begin + self.stride * cells / scale) / pixels)
            for pixels, cells in zip(self.input_size, level.shape[2:], strict=True)
        )
        return resample(level, self.grid, spans=((top, bottom), (left, right)))


class TokenFusion(_OfTokens):
    """``ConvFusion`` of a ViT: v1's eq. 9 and 10 on the maps that ViTDet's simple feature pyramid
    (Li et al. 2022) makes of the last tokens, as :func:`_scaled` has them, at the strides of conv2
    to conv4: a 1x1 convolution per level, resampling to ``grid``, the sum.

    [choice] ViTDet's own convolutions on each level and its fourth, ``SimplePyramid``, stand in
    none of the paper's equations, whose head is "light-weight"; they cost more than the tower. A
    level finer than ``grid`` is pooled before its convolution, as in ``ConvFusion``.
    """

    def __init__(
        self,
        *,
        width: int,
        dim: int,
        grid: tuple[int, int],
        input_size: tuple[int, int] = (256, 128),
        patch: int = 16,
        stride: int = 16,
    ) -> None:
        super().__init__(grid, input_size, patch, stride)
        self.scales = (4.0, 2.0, 1.0)
        made = [_scaled(width, scale) for scale in self.scales]
        self.levels = nn.ModuleList(nn.Sequential(*layers) for layers, _ in made)
        self.laterals = nn.ModuleList(nn.Conv2d(channels, dim, 1) for _, channels in made)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """levels: the one map of tokens N,width,h,w (see :func:`token_map`)."""
        _expect(levels, 1)
        (tokens,) = levels
        fused = []
        for level, lateral, scale in zip(self.levels, self.laterals, self.scales, strict=True):
            map_ = level(tokens)
            finer = map_.shape[2] * map_.shape[3] > self.grid[0] * self.grid[1]
            fused.append(
                lateral(self._placed(map_, scale)) if finer else self._placed(lateral(map_), scale)
            )
        return sum(fused[1:], fused[0])


class SimplePyramid(_OfTokens):
    """ViTDet's simple feature pyramid (Li et al. 2022) on the last patch tokens, fused to one map.

    On each of its maps (:func:`_scaled`) a 1x1 and a 3x3 convolution to ``dim`` without bias, layer
    norm after both. They are resampled to ``grid`` and summed [choice], as the levels of
    convolutional trunks are. ``scales`` takes fewer of 4, 2, 1, 0.5 [choice; the 3x3 convolution at
    1/4 costs most].
    """

    def __init__(
        self,
        *,
        width: int,
        dim: int,
        grid: tuple[int, int],
        input_size: tuple[int, int] = (256, 128),
        patch: int = 16,
        stride: int = 16,
        scales: Sequence[float] = (4.0, 2.0, 1.0, 0.5),
    ) -> None:
        super().__init__(grid, input_size, patch, stride)
        self.scales = tuple(scales)
        self.levels = nn.ModuleList(_level(width, dim, scale) for scale in scales)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """levels: the one map of tokens N,width,h,w (see :func:`token_map`)."""
        _expect(levels, 1)
        (tokens,) = levels
        fused = [
            self._placed(level(tokens), scale)
            for level, scale in zip(self.levels, self.scales, strict=True)
        ]
        return sum(fused[1:], fused[0])


def _scaled(width: int, scale: float) -> tuple[list[nn.Module], int]:
    """What makes ViTDet's map of one scale from tokens N,width,h,w at stride 16, and its channels:
    1/4 (2x2 deconvolution to width/2, layer norm, GELU, another to width/4), 1/8 (one
    deconvolution), 1/16 (as they are) and 1/32 (2x2 max pooling that keeps an odd last row).
    """
    if scale == 4:
        half, quarter = width // 2, width // 4
        layers = [
            Doubling(width, half),
            ChannelNorm(half, eps=1e-6),
            nn.GELU(),
            Doubling(half, quarter),
        ]
        return layers, quarter
    if scale == 2:
        return [Doubling(width, width // 2)], width // 2
    if scale == 1:
        return [], width
    if scale == 0.5:
        return [nn.MaxPool2d(2, ceil_mode=True)], width
    raise ValueError(f"scale {scale}; it must be one of [4, 2, 1, 0.5]")


def _level(width: int, dim: int, scale: float) -> nn.Sequential:
    first, channels = _scaled(width, scale)
    return nn.Sequential(
        *first,
        nn.Conv2d(channels, dim, 1, bias=False),
        ChannelNorm(dim, eps=1e-6),
        nn.Conv2d(dim, dim, 3, padding=1, bias=False),
        ChannelNorm(dim, eps=1e-6),
    )


class TokenMap(_OfTokens):
    """``SingleMap`` of a ViT: the last tokens by a 1x1 convolution, placed where their patches
    are. Where these do not overlap both give the same.
    """

    def __init__(
        self,
        *,
        width: int,
        dim: int,
        grid: tuple[int, int],
        input_size: tuple[int, int] = (256, 128),
        patch: int = 16,
        stride: int = 16,
    ) -> None:
        super().__init__(grid, input_size, patch, stride)
        self.lateral = nn.Conv2d(width, dim, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """levels: the one map of tokens N,width,h,w (see :func:`token_map`)."""
        _expect(levels, 1)
        return self._placed(self.lateral(levels[0]), 1.0)


class SingleMap(nn.Module):
    """Only the last map, by a 1x1 convolution to ``dim``: part prompts without hierarchical
    alignment (v1 Table 3, "B+P"). It covers the image evenly, as the maps of convolutions do, and
    is brought to ``grid``, in a recipe the fused map's [choice]; None: it keeps its own.
    """

    def __init__(self, *, width: int, dim: int, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.grid = grid
        self.lateral = nn.Conv2d(width, dim, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """levels: N,C,h,w; the last one is taken."""
        if not levels:
            raise ValueError("found no map; expected at least one")
        fused = self.lateral(levels[-1])
        return fused if self.grid is None else resample(fused, self.grid)


def _expect(levels: Sequence[Tensor], count: int) -> None:
    if len(levels) != count:
        raise ValueError(f"found {len(levels)} maps; expected {count}")
