"""InvPT's pyramid: tokens of all tasks attend to each other in stages of growing resolution.

Between modules, feature maps of all tasks are one tensor (N task),C,h,w, the task varying fastest;
inside attention they are tokens N,(task row column),C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = 3
ATTENTION_HEADS = 2


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, ``align_corners`` False as everywhere in InvPT."""
    return F.interpolate(x, list(size), mode="bilinear", align_corners=False)


def as_maps(tokens: Tensor, tasks: int, side: int) -> Tensor:
    """N,(task row column),C -> (N task),C,side,side."""
    return tokens.reshape(len(tokens) * tasks, side, side, -1).permute(0, 3, 1, 2)


def _as_tokens(maps: Tensor, tasks: int) -> Tensor:
    """(N task),C,h,w -> N,(task row column),C."""
    channels = maps.shape[1]
    return maps.permute(0, 2, 3, 1).reshape(len(maps) // tasks, -1, channels)


class UpEmbed(nn.Module):
    """Twice the resolution, half the channels: bilinear, then two 3x3 convolutions that look two
    cells far."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()

        def conv(channels: int) -> nn.Conv2d:
            return nn.Conv2d(channels, outputs, 3, padding=2, dilation=2, bias=False)

        self.proj = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            conv(inputs),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            conv(outputs),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class TaskAttention(nn.Module):
    """Attention over the tokens of all tasks, at reduced resolution.

    Queries are every second cell, of a depthwise convolution per task; keys and values are means
    over squares of ``pool`` cells. Scores are scaled by dim^-0.5 of the whole dimension, not of a
    head's share. ``fused``: the scores take in those of the stage before (the paper's attention
    message passing), whose queries are resized to this stage's.
    """

    def __init__(self, dim: int, tasks: int, *, pool: int, fused: bool) -> None:
        super().__init__()
        self.tasks, self.pool, self.scale = tasks, pool, dim**-0.5
        self.conv_proj_q = nn.ModuleList()
        for _ in range(tasks):
            sampler = nn.Sequential()
            sampler.add_module("conv", nn.Conv2d(dim, dim, 3, 2, 1, groups=dim, bias=False))
            sampler.add_module("bn", nn.BatchNorm2d(dim))
            self.conv_proj_q.append(sampler)
        self.proj_q = nn.Linear(dim, dim)
        self.proj_k = nn.Linear(dim, dim)
        self.proj_v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        heads = ATTENTION_HEADS
        self.fuse_attn = nn.Conv2d(2 * heads, heads, 1) if fused else None

    def forward(self, x: Tensor, side: int, message: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens N,T side side,C, message N,heads,Q/4,K -> N,Q,C and scores N,heads,Q,K."""
        maps = as_maps(x, self.tasks, side)
        queries = torch.empty_like(maps[..., ::2, ::2])
        for task, sampler in enumerate(self.conv_proj_q):
            queries[task :: self.tasks] = sampler(maps[task :: self.tasks])
        pooled = _as_tokens(F.avg_pool2d(maps, self.pool), self.tasks)
        q = self._heads(self.proj_q(_as_tokens(queries, self.tasks)))
        k, v = self._heads(self.proj_k(pooled)), self._heads(self.proj_v(pooled))
        scores = q @ k.transpose(2, 3) * self.scale
        if self.fuse_attn is not None:
            assert message is not None
            scores = self.fuse_attn(torch.cat([scores, self._finer(message, side // 2)], 1))
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.proj(mixed), scores

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (ATTENTION_HEADS, -1)).transpose(1, 2)

    def _finer(self, message: Tensor, side: int) -> Tensor:
        """Scores over a grid of queries per task -> over ``side`` x ``side`` queries per task."""
        maps = as_maps(message.flatten(0, 1), self.tasks, side // 2)
        finer = _as_tokens(resize(maps, (side, side)), self.tasks)
        return finer.unflatten(0, message.shape[:2])


class Mlp(nn.Module):
    """Two linear layers, GELU between them, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention, whose output is resized back to the stage's grid, and an MLP, both residual."""

    def __init__(self, dim: int, tasks: int, *, pool: int, fused: bool) -> None:
        super().__init__()
        self.tasks = tasks
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)
        self.attn = TaskAttention(dim, tasks, pool=pool, fused=fused)

    def forward(self, maps: Tensor, message: Tensor | None) -> tuple[Tensor, Tensor]:
        """(N task),C,side,side and the message -> the same shape, and this stage's scores."""
        side = maps.shape[-1]
        x = _as_tokens(maps, self.tasks)
        mixed, scores = self.attn(self.norm1(x), side, message)
        mixed = resize(as_maps(mixed, self.tasks, side // 2), (side, side))
        x = x + _as_tokens(mixed, self.tasks)
        x = x + self.mlp(self.norm2(x))
        return as_maps(x, self.tasks, side), scores


class Stage(nn.Module):
    """A block, from the second stage on behind an ``UpEmbed`` per task and the backbone's skip."""

    def __init__(self, number: int, dim: int, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks
        if number:
            self.patch_embed = nn.ModuleList(UpEmbed(2 * dim, dim) for _ in range(tasks))
        self.blocks = nn.ModuleList([Block(dim, tasks, pool=2 << number, fused=number > 0)])

    def forward(
        self, maps: Tensor, skip: Tensor | None, message: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if skip is not None:
            tasks = (
                embed(maps[task :: self.tasks]) + skip
                for task, embed in enumerate(self.patch_embed)
            )
            maps = torch.stack(list(tasks), 1).flatten(0, 1)
        return self.blocks[0](maps, message)


class InvertedPyramid(nn.Module):
    """The three stages, and the sum of what each task has in them."""

    def __init__(self, tasks: Sequence[tuple[str, int]], features: int, tokens: int) -> None:
        """tasks: (name, channels of the prediction); features, tokens: as in ``Sizes``."""
        super().__init__()
        self.names = [name for name, _ in tasks]
        count = len(self.names)
        dims = [tokens >> number for number in range(STAGES)]
        self.norm_mts = nn.ModuleList(nn.LayerNorm(dim * count) for dim in dims)
        # The first stage has the width of the sum already.
        self.redu_chan = nn.ModuleDict(
            {
                str(number): nn.ModuleList(nn.Conv2d(dims[number], tokens, 1) for _ in self.names)
                for number in range(1, STAGES)
            }
        )
        self.invpt_stages = nn.ModuleList(
            Stage(number, dim, count) for number, dim in enumerate(dims)
        )
        self.mt_proj = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Conv2d(tokens, tokens, 3, padding=1), nn.BatchNorm2d(tokens), nn.ReLU()
                )
                for name in self.names
            }
        )
        self.mix_proj = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Conv2d(features + channels, tokens, 1))
                for name, channels in tasks
            }
        )

    def forward(
        self, inputs: Mapping[str, Tensor], skips: Sequence[Tensor | None], tasks: Sequence[str]
    ) -> dict[str, Tensor]:
        """Preliminary feature and prediction of every task, N,C,g,g -> of ``tasks``, N,C,8g,8g."""
        count = len(self.names)
        mixed = [self.mix_proj[name](inputs[name]) for name in self.names]
        maps = torch.stack(mixed, 1).flatten(0, 1)
        target = [8 * side for side in mixed[0].shape[2:]]
        sums: dict[str, Tensor] = {}
        message = None
        for number, stage in enumerate(self.invpt_stages):
            maps, message = stage(maps, skips[number], message)
            # One layer norm over the channels of all tasks together.
            joint = maps.unflatten(0, (-1, count)).flatten(1, 2).permute(0, 2, 3, 1)
            normed = self.norm_mts[number](joint).permute(0, 3, 1, 2).chunk(count, 1)
            for name in tasks:
                index = self.names.index(name)
                part = normed[index]
                if number:
                    part = self._reduction(number, index)(part)
                part = resize(part, target)
                sums[name] = sums[name] + part if name in sums else part
        return {name: self.mt_proj[name](sums[name]) for name in tasks}

    def _reduction(self, stage: int, task: int) -> nn.Module:
        reductions = self.redu_chan[str(stage)]
        assert isinstance(reductions, nn.ModuleList)
        return reductions[task]
