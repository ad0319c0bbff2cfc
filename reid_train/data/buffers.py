"""Memory for batches, used again: the system clears each page that it gives out anew."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Buffers:
    """Tensors on the CPU, not initialised. Their memory is given out again when no tensor and no
    array looks at it any more, so whoever keeps a batch keeps it whole. Threads may share one.

    pinned: page-locked memory, which a GPU reads while the CPU goes on. torch keeps that by itself,
    and knows when the GPU has read it.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self.pinned = pinned
        self.free: dict[int, list[Tensor]] = {}

    def __call__(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        if self.pinned:
            return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
        count = math.prod(shape)
        # Erased pixels are of another number in every batch: a few sizes serve all.
        size = 1 << max(count * dtype.itemsize - 1, 0).bit_length()
        waiting = self.free.setdefault(size, [])
        try:
            memory = waiting.pop()
        except IndexError:
            memory = torch.empty(size, dtype=torch.uint8)
        # What torch makes of an array keeps that array, through all that is made of it in turn.
        lease = np.frombuffer(memory.numpy(), np.uint8)
        weakref.finalize(lease, waiting.append, memory).atexit = False
        return torch.from_numpy(lease)[: count * dtype.itemsize].view(dtype).view(tuple(shape))
