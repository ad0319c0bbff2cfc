"""Damaged files of weights and states: an error that names the file, whatever torch makes of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_state, read_state_dict, save_state

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


def damaged(data: bytes, number: int) -> bytes:
    """``data`` cut, with bytes changed, or with a piece of it moved."""
    rng = random.Random(number)
    changed = bytearray(data)
    if number % 3 == 0:
        return bytes(changed[: rng.randrange(len(changed))])
    if number % 3 == 1:
        for _ in range(rng.randrange(1, 8)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    at, size = rng.randrange(len(changed)), rng.randrange(1, 64)
    return bytes(changed[:at] + changed[at + size :])


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_every_damage_is_a_line_that_names_the_file(tmp_path: Path, old: bool):
    path = tmp_path / "x.pth"
    torch.save({"state_dict": STATE}, path, _use_new_zipfile_serialization=not old)
    data = path.read_bytes()
    refused = 0
    for number in range(150):
        path.write_bytes(damaged(data, number))
        for read in (read_state_dict, load_state):
            try:
                read(path)
            except ReidpipeError as error:
                assert "x.pth" in str(error) and "\n" not in str(error)
                refused += 1
    assert refused > 150


def test_a_state_dict_that_holds_itself_ends(tmp_path: Path):
    content: dict = {}
    content["state_dict"] = content
    path = tmp_path / "x.pth"
    torch.save(content, path)
    with pytest.raises(ReidpipeError, match="no tensors"):
        read_state_dict(path)


def test_a_state_is_read_as_it_was_written(tmp_path: Path):
    path = tmp_path / "state.pt"
    save_state(path, {"task": STATE, "epoch": 3})
    assert load_state(path)["epoch"] == 3 and torch.equal(
        load_state(path)["task"]["bias"], STATE["bias"]
    )
