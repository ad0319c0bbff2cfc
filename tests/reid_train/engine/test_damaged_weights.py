"""Damaged files of weights and states: an error that names the file, whatever torch makes of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import (
    extent_of,
    load_state,
    read_state_dict,
    save_state,
    shape_of,
)

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


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.ones(3, device="meta"),
    ],
    ids=["sparse", "compressed", "meta"],
)
def test_tensors_that_cannot_be_copied_are_refused(tensor: torch.Tensor, tmp_path: Path):
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {**STATE, "more": [{"deep": tensor}]}}, path)
    for read in (read_state_dict, load_state):
        with pytest.raises(ReidpipeError, match="x.pth"):
            read(path)


@pytest.mark.parametrize("shape", [(), (4,), (4, 0), (4, 2, 1)])
def test_sizes_are_read_off_entries_of_the_right_form(shape: tuple[int, ...]):
    state = {"a": torch.ones(shape)}
    with pytest.raises(ReidpipeError, match="'a' of shape"):
        shape_of(state, "a", "x.pth", 2)
    with pytest.raises(ReidpipeError, match="no key 'b'"):
        shape_of(state, "b", "x.pth", 2)
    assert shape_of({"a": torch.ones(4, 2)}, "a", "x.pth", 2) == (4, 2)
    assert extent_of(state, "a", 1, 7) == (2 if shape == (4, 2, 1) else 7)
    assert extent_of(state, "b", 0, 7) == 7


def test_networks_of_entries_without_axes_have_their_published_sizes():
    from parsing_models.networks.invpt.network import Sizes
    from parsing_models.networks.schp.network import Widths
    from parsing_models.networks.solider import SoliderSizes

    strange = ("conv1.weight", "fushion.3.weight", "fushion.4.weight", "backbone.pos_embed",
               "patch_embed.projection.weight", "backbone.patch_embed.proj.weight",
               "stages.0.blocks.0.attn.w_msa.relative_position_bias_table")  # fmt: skip
    state = {name: torch.tensor(1.0) for name in strange}
    assert Widths.of(state) == Widths.of({})
    assert Sizes.of(state) == Sizes.of({})
    assert SoliderSizes.of(state) == SoliderSizes.of({})
