"""In which floating-point type losses, norms and features are computed."""

from __future__ import annotations

import torch
from torch import Tensor


def stored(value: Tensor) -> Tensor:
    """A weight as files keep it: float64 becomes float32."""
    return value.float() if value.dtype == torch.float64 else value


def full(values: Tensor) -> Tensor:
    """``values`` in float32 whatever autocast made of them, integers too; float64 stays, so that a
    training in ``fp64`` is nowhere rounded.
    """
    return values if values.dtype == torch.float64 else values.float()
