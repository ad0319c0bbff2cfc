"""CLIP's ResNet as CLIP-ReID has it (last stride 1, every position of the attention pool asked) by
the names of the authors' files; norms by their running figures, as the frozen encoder has them, or
by the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Maps(NamedTuple):
    """After layer1 to layer4, N,C,h,w, and 1+h*w projected positions, the pooled one first."""

    levels: tuple[Tensor, Tensor, Tensor]
    last: Tensor
    projected: Tensor


class Encoder:
    """state: weights and running figures by name; training: norms by the batch."""

    def __init__(self, state: Mapping[str, Tensor], *, heads: int, training: bool = False) -> None:
        self.state, self.heads, self.training = state, heads, training

    def __call__(self, x: Tensor) -> Maps:
        for number, stride in ((1, 2), (2, 1), (3, 1)):
            x = self.conv(f"conv{number}", x, stride=stride, padding=1)
            x = F.relu(self.norm(f"bn{number}", x))
        x = F.avg_pool2d(x, 2)
        maps = []
        for number, stride in ((1, 1), (2, 2), (3, 2), (4, 1)):
            blocks = {n.split(".")[1] for n in self.state if n.startswith(f"layer{number}.")}
            for index in range(len(blocks)):
                first = stride if index == 0 else 1
                x = self.bottleneck(f"layer{number}.{index}", x, stride=first)
            maps.append(x)
        return Maps((maps[0], maps[1], maps[2]), x, self.pool(x))

    def conv(self, name: str, x: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], stride=stride, padding=padding)

    def norm(self, name: str, x: Tensor) -> Tensor:
        if self.training:
            mean = x.mean((0, 2, 3))
            variance = (x - mean[:, None, None]).square().mean((0, 2, 3))
        else:
            mean = self.state[f"{name}.running_mean"]
            variance = self.state[f"{name}.running_var"]
        scale = self.state[f"{name}.weight"] / (variance + 1e-5).sqrt()
        shift = self.state[f"{name}.bias"] - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]

    def bottleneck(self, name: str, x: Tensor, *, stride: int) -> Tensor:
        """A stride is an average pool before the last convolution, and before the shortcut's."""
        y = F.relu(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x)))
        y = F.relu(self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", y, padding=1)))
        if stride > 1:
            y = F.avg_pool2d(y, stride)
        y = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", y))
        if f"{name}.downsample.0.weight" in self.state:
            x = F.avg_pool2d(x, stride) if stride > 1 else x
            x = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x))
        return F.relu(y + x)

    def pool(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        tokens = tokens + self.state["attnpool.positional_embedding"]
        query, key, value = (
            self.linear(f"attnpool.{kind}_proj", tokens)
            .unflatten(2, (self.heads, -1))
            .transpose(1, 2)
            for kind in "qkv"
        )
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        return self.linear("attnpool.c_proj", attended)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]
