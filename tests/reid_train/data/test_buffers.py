"""Memory is used again when nobody looks at it, and not before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from reid_train.data.buffers import Buffers

SHAPE = (4, 3, 5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.int64])
def test_tensors_have_their_shape_and_type(dtype: torch.dtype):
    found = Buffers()(SHAPE, dtype)
    assert found.dtype == dtype and found.shape == SHAPE and found.is_contiguous()
    assert found.data_ptr() % 64 == 0
    assert Buffers()((0, 3), dtype).shape == (0, 3)


KEEPERS: dict[str, Callable[[Tensor], Any]] = {
    "a view": lambda t: t[1:].permute(2, 0, 1)[0],
    "an array": lambda t: t.numpy()[2:, 1],
    "other bits": lambda t: t.view(torch.int32)[0],
    "a graph": lambda t: (torch.ones(5, requires_grad=True) * t).sum(),
}


@pytest.mark.parametrize("name", KEEPERS)
def test_what_is_looked_at_is_not_given_away(name: str):
    buffers = Buffers()
    first = buffers(SHAPE, torch.float32)
    place = first.data_ptr()
    kept = KEEPERS[name](first)
    del first
    assert buffers(SHAPE, torch.float32).data_ptr() != place
    del kept
    again = [buffers(SHAPE, torch.float32) for _ in range(2)]
    assert place in {tensor.data_ptr() for tensor in again}


def test_nearly_equal_sizes_share_memory():
    buffers = Buffers()
    first = buffers((1000, 3), torch.float32)
    place = first.data_ptr()
    del first
    assert buffers((1010, 3), torch.float32).data_ptr() == place
