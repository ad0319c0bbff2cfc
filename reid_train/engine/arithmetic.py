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


def normalised(images: Tensor, mean: Tensor, std: Tensor, size: tuple[int, int]) -> Tensor:
    """Images N,3,H,W float RGB in 0..1, less ``mean`` and divided by ``std``, in their type.

    Raises ValueError when they are of another ``size`` (H, W) or shape, and for whole numbers,
    which are in 0..255.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2:] != size:
        height, width = size
        raise ValueError(
            f"images have shape {tuple(images.shape)}; this model takes N,3,{height},{width}"
        )
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; this model takes floats in 0..1")
    if images.dtype != mean.dtype:
        images = images.to(mean.dtype)
    return (images - mean).div_(std)
