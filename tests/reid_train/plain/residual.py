"""The COL780 networks by the names of their published files, in training mode (specs: layers of
BigNet, SliceNet1, SliceNet2; Wojke & Bewley 2018). Dropout takes masks that it is given in turn.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reid_train.plain.updates import Named


class Network:
    """weights: parameters by name. running: means and variances of batch norms, which are moved.
    masks: what each dropout multiplies its input by, in the order of the work.
    """

    def __init__(self, weights: Named, running: Named, masks: Iterator[Tensor]) -> None:
        self.weights, self.running, self.masks = weights, running, masks

    def conv(self, name: str, x: Tensor, *, stride: int = 1, padding: int = 1) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """By the batch; running figures move a tenth of the way, the variance unbiased."""
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        mean = x.mean(axes)
        variance = (x - mean.view(shape)).square().mean(axes)
        count = x.numel() / x.shape[1]
        for key, now in (("mean", mean), ("var", variance * count / (count - 1))):
            place = f"{name}.running_{key}"
            self.running[place] = 0.9 * self.running[place] + 0.1 * now.detach()
        x = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
        return x * self.weights[f"{name}.weight"].view(shape) + self.weights[f"{name}.bias"].view(
            shape
        )

    def layer(self, name: str, x: Tensor, **options: int) -> Tensor:
        return F.elu(self.norm(f"{name}.1", self.conv(f"{name}.0", x, **options)))

    def residual(
        self, name: str, x: Tensor, *, first: bool = False, halves: bool = False
    ) -> Tensor:
        y = x if first else F.elu(self.norm(f"{name}.bn_0.0", x))
        if halves:
            y = self.layer(f"{name}.conv_1", F.pad(y, (0, 1, 0, 1)), stride=2, padding=0)
            x = self.conv(f"{name}.conv_up", x, stride=2, padding=0)
        else:
            y = self.layer(f"{name}.conv_1", y)
        return self.conv(f"{name}.conv_2", y * next(self.masks)) + x

    def map(self, x: Tensor, inside: str = "") -> Tensor:
        x = self.layer(f"{inside}conv_2", self.layer(f"{inside}conv_1", x))
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, stride=2)
        x = self.residual(f"{inside}residual_4", x, first=True)
        x = self.residual(f"{inside}residual_5", x)
        x = self.residual(f"{inside}residual_6", x, halves=True)
        x = self.residual(f"{inside}residual_7", x)
        x = self.residual(f"{inside}residual_8", x, halves=True)
        return self.residual(f"{inside}residual_9", x)

    def dense(self, x: Tensor, inside: str = "") -> Tensor:
        name = f"{inside}dense_10"
        x = x.flatten(1)
        x = x * next(self.masks)
        x = x @ self.weights[f"{name}.2.weight"].T + self.weights[f"{name}.2.bias"]
        return F.elu(self.norm(f"{name}.3", x))

    def bignet(self, x: Tensor, inside: str = "") -> Tensor:
        return unit(self.dense(self.map(x, inside), inside))

    def slicenet1(self, x: Tensor) -> Tensor:
        """Strips of the image through one BigNet; their joint length stays 2."""
        return torch.cat([self.bignet(strip, "bignet.") for strip in x.chunk(4, 2)], 1)

    def slicenet2(self, x: Tensor) -> Tensor:
        """Strips of the map through one dense layer; one length for all."""
        return unit(torch.cat([self.dense(s) for s in self.map(x, "bignet.").chunk(4, 2)], 1))


def unit(x: Tensor) -> Tensor:
    return x / x.square().sum(1, keepdim=True).sqrt()
