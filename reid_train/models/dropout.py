"""Dropout that does not dominate small networks on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.runtime import on_cpu


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return (gradients[0] * keep).mul_(ctx.scale), None, None


class Dropout(nn.Dropout):
    """Inverted dropout whose mask comes from 16 random bits per value instead of one float draw.

    torch's own mask costs 15 % of a COL780 training step on a CPU, this one 2 %. The probability
    is a multiple of 2**-16 (0.4 becomes 0.399994) and the scale is its exact inverse, so the
    expectation is unchanged. Draws from torch's generator; other devices run torch's own kernel.
    """

    def forward(self, x: Tensor) -> Tensor:
        steps = round(self.p * 65536)
        if not self.training or steps == 0:
            return x
        if not on_cpu(x.device) or steps == 65536:
            return F.dropout(x, self.p)
        if not x.is_contiguous(memory_format=torch.channels_last):
            x = x.contiguous()
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64)
        keep = bits.random_(-(2**63), None).view(torch.int16)[: x.numel()] >= steps - 32768
        # the mask lies in memory as x does: no copy between memory orders
        return _Drop.apply(x, keep.as_strided(x.shape, x.stride()), 65536 / (65536 - steps))
