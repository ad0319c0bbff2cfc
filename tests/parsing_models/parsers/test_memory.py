"""Memory that runs out: smaller slices, the same maps, told once."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import Tensor

from parsing_models.parsers.interface import MOST_IMAGES, Parser, Preprocessing
from pipeline.labels.sets import PARTS
from pipeline.terminal.errors import ReidpipeError

GPU_TEXT = "CUDA out of memory. Tried to allocate 2.00 GiB"
CPU_TEXT = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"


class Narrow:
    """A network that fits ``room`` images at once; its logits are the pixels of three channels."""

    def __init__(self, room: int, error: Exception) -> None:
        self.room, self.error = room, error
        self.tried: list[int] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        self.tried.append(len(inputs))
        if len(inputs) > self.room:
            raise self.error
        return torch.cat([inputs, -inputs[:, :2]], 1)


def parser(room: int, error: Exception) -> tuple[Parser, Narrow]:
    network = Narrow(room, error)
    given = Preprocessing((16, 8), "rgb", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    return Parser(network, PARTS, given, torch.device("cpu"), "narrow"), network


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (21, 16, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(GPU_TEXT),
        RuntimeError(GPU_TEXT),
        RuntimeError(CPU_TEXT),
        MemoryError(),
    ],
    ids=["torch", "text", "cpu", "python"],
)
def test_slices_are_halved_and_nothing_is_lost(
    images: np.ndarray, error: Exception, caplog: pytest.LogCaptureFixture
):
    roomy, _ = parser(1000, error)
    narrow, network = parser(3, error)
    assert roomy.slice_images == narrow.slice_images == MOST_IMAGES
    expected = roomy.parse(images, (16, 8))
    assert len(np.unique(expected.label)) > 1
    with caplog.at_level(logging.WARNING):
        found = narrow.parse(images, (16, 8))
    assert np.array_equal(found.label, expected.label)
    assert np.array_equal(found.confidence, expected.confidence)
    assert network.tried == [21, 10, 5, 2, *[2] * 9, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "too little memory on cpu for 21 images at once: going on with 10 or less"
    ]
    # What was learnt is kept: the next batch is not tried in vain.
    network.tried.clear()
    narrow.parse(images[:4], (16, 8))
    assert network.tried == [2, 2]


def test_one_image_too_many_is_told_in_one_line(images: np.ndarray):
    narrow, _ = parser(0, torch.OutOfMemoryError(GPU_TEXT))
    with pytest.raises(ReidpipeError, match="too little memory on cpu for one image at 16x8"):
        narrow.parse(images)


def test_other_failures_are_not_mistaken_for_memory(images: np.ndarray):
    broken, network = parser(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        broken.parse(images)
    assert network.tried == [21]
