"""Sizes and devices as typed."""

from __future__ import annotations

import pytest

from pipeline.datasets.commands import _size
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.options import check_device


@pytest.mark.parametrize(
    "text", ["²x²", "٣x٣", "0x4", "4", "x", "-4x4", "4.0x4", "", "256x999999", "9" * 5000 + "x4"]
)
def test_other_sizes_are_refused(text: str):
    with pytest.raises(ReidpipeError, match="found size .*type --size 256x128"):
        _size(text)


def test_sizes():
    assert _size("256x128") == (256, 128) and _size("8X4") == (8, 4)


@pytest.mark.parametrize("name", ["tpu", "gpu", "cuda:", "cuda:²", "cuda:-1", "CPU", "", "cpu:0"])
def test_other_devices_are_refused(name: str):
    with pytest.raises(ReidpipeError, match=f"found device '{name}'.*type --device auto"):
        check_device(name)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:15"])
def test_devices(name: str):
    assert check_device(name) == name
