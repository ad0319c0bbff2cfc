"""SCHP's parsing network, "A-CE2P" (Li et al., Self-Correction for Human Parsing, 2019).

Plain torch: the InPlace-ABN extension of the authors' code is replaced by ``ABN``, which computes
the same values. Module names are those of the published checkpoints (``fushion`` included).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.checkpoint import extent_of

EPS = 1e-5
MOMENTUM = 0.1
SLOPE = 0.01


class ABN(nn.Module):
    """Batch norm with scale |weight| + eps, then LeakyReLU (slope 0.01) unless ``leaky`` is False.

    N,C,H,W -> same. The absolute value is InPlace-ABN's own, not batch norm's (mapillary
    inplace_abn, forward op): reading a stored negative weight as it is breaks the network.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, leaky: bool = True) -> None:
        super().__init__()
        self.leaky = leaky
        self.momentum = MOMENTUM
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs() + EPS
        mean, var = self.running_mean, self.running_var
        x = F.batch_norm(x, mean, var, scale, self.bias, self.training, self.momentum, EPS)
        return F.leaky_relu(x, SLOPE) if self.leaky else x


def fold_norms(network: nn.Module) -> nn.Module:
    """Merge every ABN into the convolution before it, in place; for inference only.

    In all modules here an ABN is registered right after its convolution. What is left of the ABN
    is its activation. Outputs agree to float32 rounding.
    """
    for parent in list(network.modules()):
        conv: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                conv = (name, child)
            elif isinstance(child, ABN):
                assert conv is not None, f"no convolution before {name}"
                setattr(parent, conv[0], _folded(conv[1], child))
                setattr(parent, name, nn.LeakyReLU(SLOPE) if child.leaky else nn.Identity())
    return network


@torch.no_grad()
def _folded(conv: nn.Conv2d, norm: ABN) -> nn.Conv2d:
    factor = (norm.weight.abs() + EPS) * torch.rsqrt(norm.running_var + EPS)
    merged = copy.copy(conv)
    merged._parameters = {
        "weight": nn.Parameter(conv.weight * factor[:, None, None, None]),
        "bias": nn.Parameter(norm.bias - norm.running_mean * factor),
    }
    return merged


@dataclass(frozen=True)
class Widths:
    """The sizes in which SCHP networks may differ; the defaults are the published ones.

    layers: bottlenecks per stage. stem: channels after the first convolution. planes: inner
    channels of the first stage. context, head, skip, edge: channels of the pyramid pooling, of the
    decoder and fusion, of the decoder's shortcut, of the edge branch.
    """

    classes: int = 20
    layers: tuple[int, ...] = (3, 4, 23, 3)
    stem: int = 64
    planes: int = 64
    context: int = 512
    head: int = 256
    skip: int = 48
    edge: int = 256

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Widths:
        """Read the sizes off a state dict; what it does not tell keeps the published value."""
        sources = {
            "classes": "fushion.3.weight",
            "stem": "conv1.weight",
            "planes": "layer1.0.conv1.weight",
            "context": "context_encoding.bottleneck.0.weight",
            "head": "fushion.0.weight",
            "skip": "decoder.conv2.0.weight",
            "edge": "edge.conv1.0.weight",
        }
        assert set(sources) == {field.name for field in fields(cls)} - {"layers"}
        found: dict[str, Any] = {
            name: extent_of(state, key, 0, getattr(cls, name)) for name, key in sources.items()
        }
        blocks: list[set[str]] = [set(), set(), set(), set()]
        for key in state:
            if match := re.match(r"layer([1-4])\.(\d+)\.", key):
                blocks[int(match[1]) - 1].add(match[2])
        if all(blocks):
            found["layers"] = tuple(len(stage) for stage in blocks)
        return cls(**found)


# ``schp-tiny``: a quarter of the published widths, fewer layers, half of the head again.
TINY = Widths(
    classes=20, layers=(2, 2, 4, 2), stem=16, planes=16, context=64, head=64, skip=16, edge=32
)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


# The norm and activation of a branch, from its channels: ABN here, other networks have others.
Norm = Callable[[int], nn.Module]


def _conv_norm(inputs: int, outputs: int, norm: Norm, kernel: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), norm(outputs)]


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride and the dilation), 1x1 to four times the planes, and the sum."""

    def __init__(self, inputs: int, planes: int, *, stride: int, dilation: int, widen: bool):
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = ABN(planes, leaky=False)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, dilation, dilation, bias=False)
        self.bn2 = ABN(planes, leaky=False)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = ABN(outputs, leaky=False)
        self.downsample = None
        if widen:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), ABN(outputs, leaky=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class PyramidPooling(nn.Module):
    """Means over 1, 4, 9 and 36 cells, projected and resized, before the feature itself."""

    def __init__(self, inputs: int, outputs: int, norm: Norm = ABN) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), *_conv_norm(inputs, outputs, norm))
            for bins in (1, 2, 3, 6)
        )
        self.bottleneck = nn.Sequential(*_conv_norm(inputs + 4 * outputs, outputs, norm, 3))

    def forward(self, x: Tensor) -> Tensor:
        priors = [_resize(stage(x), x) for stage in self.stages]
        return self.bottleneck(torch.cat([*priors, x], 1))


class Edge(nn.Module):
    """Part boundaries from three levels at once: logits N,2,h,w and the features they share."""

    def __init__(self, inputs: tuple[int, int, int], width: int, norm: Norm = ABN) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_conv_norm(inputs[0], width, norm))
        self.conv2 = nn.Sequential(*_conv_norm(inputs[1], width, norm))
        self.conv3 = nn.Sequential(*_conv_norm(inputs[2], width, norm))
        self.conv4 = nn.Conv2d(width, 2, 3, padding=1)
        self.conv5 = nn.Conv2d(6, 2, 1)

    def forward(self, x2: Tensor, x3: Tensor, x4: Tensor) -> tuple[Tensor, Tensor]:
        features = [self.conv1(x2), self.conv2(x3), self.conv3(x4)]
        logits = [_resize(self.conv4(feature), x2) for feature in features]
        features = [_resize(feature, x2) for feature in features]
        return self.conv5(torch.cat(logits, 1)), torch.cat(features, 1)


class Decoder(nn.Module):
    """Context at 1/4 resolution beside a shortcut: parsing logits and the feature before them."""

    def __init__(self, widths: Widths, shortcut: int, norm: Norm = ABN) -> None:
        super().__init__()
        head = widths.head
        self.conv1 = nn.Sequential(*_conv_norm(widths.context, head, norm))
        self.conv2 = nn.Sequential(*_conv_norm(shortcut, widths.skip, norm))
        self.conv3 = nn.Sequential(
            *_conv_norm(head + widths.skip, head, norm), *_conv_norm(head, head, norm)
        )
        self.conv4 = nn.Conv2d(head, widths.classes, 1)

    def forward(self, context: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        shortcut = self.conv2(x2)
        feature = self.conv3(torch.cat([_resize(self.conv1(context), x2), shortcut], 1))
        return self.conv4(feature), feature


@dataclass(frozen=True)
class SCHPOutput:
    """All at 1/4 of the input. fusion N,C,h,w: the logits to use; parsing N,C,h,w; edge N,2,h,w."""

    fusion: Tensor
    parsing: Tensor
    edge: Tensor


class SCHP(nn.Module):
    """``forward(images N,3,H,W, normalised, BGR in the published files) -> SCHPOutput``."""

    def __init__(self, widths: Widths | None = None) -> None:
        super().__init__()
        widths = widths or Widths()
        self.widths = widths
        stem, planes = widths.stem, widths.planes
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = ABN(stem, leaky=False)
        self.conv2 = nn.Conv2d(stem, stem, 3, 1, 1, bias=False)
        self.bn2 = ABN(stem, leaky=False)
        self.conv3 = nn.Conv2d(stem, 2 * stem, 3, 1, 1, bias=False)
        self.bn3 = ABN(2 * stem, leaky=False)
        outputs = tuple(4 * planes * 2**i for i in range(4))
        inputs = (2 * stem, *outputs)
        # The last stage keeps the resolution and dilates all of its blocks instead.
        for i, (stride, dilation) in enumerate(((1, 1), (2, 1), (2, 1), (1, 2))):
            blocks = [
                Bottleneck(
                    inputs[i] if n == 0 else outputs[i],
                    planes * 2**i,
                    stride=stride if n == 0 else 1,
                    dilation=dilation,
                    widen=n == 0,
                )
                for n in range(widths.layers[i])
            ]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.context_encoding = PyramidPooling(outputs[3], widths.context)
        self.edge = Edge(outputs[:3], widths.edge)
        self.decoder = Decoder(widths, outputs[0])
        self.fushion = nn.Sequential(
            *_conv_norm(widths.head + 3 * widths.edge, widths.head, ABN),
            nn.Dropout2d(0.1),
            nn.Conv2d(widths.head, widths.classes, 1),
        )

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def forward(self, images: Tensor) -> SCHPOutput:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = F.relu(self.bn3(self.conv3(x)), inplace=True)
        x2 = self.layer1(F.max_pool2d(x, 3, 2, 1))
        x3 = self.layer2(x2)
        x4 = self.layer3(x3)
        context = self.context_encoding(self.layer4(x4))
        parsing, feature = self.decoder(context, x2)
        edge, edge_feature = self.edge(x2, x3, x4)
        fusion = self.fushion(torch.cat([feature, edge_feature], 1))
        return SCHPOutput(fusion, parsing, edge)
