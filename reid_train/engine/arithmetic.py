"""In which floating-point type losses, norms and features are computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def stored(value: Tensor) -> Tensor:
    """A weight as files keep it: float64 becomes float32."""
    return value.float() if value.dtype == torch.float64 else value


def restore(own: Tensor, values: Sequence[float]) -> None:
    """Give constants that float32 rounded their digits back, in place, where ``own`` is float64."""
    if own.dtype == torch.float64:
        own.copy_(torch.tensor(tuple(values), dtype=own.dtype).view_as(own))


def full(values: Tensor) -> Tensor:
    """``values`` in float32 whatever autocast made of them, integers too; float64 stays, so that a
    training in ``fp64`` is nowhere rounded.
    """
    return values if values.dtype == torch.float64 else values.float()
