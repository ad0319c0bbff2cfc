"""A ``state.pt`` that this training did not write."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_state
from reid_train.engine.loop import STATE, train
from tests.reid_train.engine.test_loop import RUNTIME, Toy, plain_stage


@pytest.mark.parametrize("content", [{"a": 1}, [1], torch.zeros(2), 7], ids=repr)
def test_what_is_no_state_is_the_state_of_another_run(tmp_path: Path, content: Any):
    torch.save(content, tmp_path / STATE)
    with pytest.raises(ReidpipeError, match="state of another run.*to start over type rm "):
        train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_is_one_line_and_no_warning(tmp_path: Path, protocol: int):
    (tmp_path / STATE).write_bytes(pickle.dumps({"a": 1}, protocol))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ReidpipeError, match="cannot be read.*type rm "):
            load_state(tmp_path / STATE)


def stopped(folder: Path) -> dict[str, Any]:
    """The state of a training that was stopped after its first epoch."""

    class Stop(Exception):
        pass

    def stop(_: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(Toy(), [plain_stage()], runtime=RUNTIME, folder=folder, after_epoch=stop)
    return load_state(folder / STATE)


def other_shapes(state: dict[str, Any]) -> None:
    for values in state["optimiser"]["state"].values():
        for name, value in values.items():
            if value.numel() > 1:
                values[name] = torch.zeros(1_000_000)


def further_places(state: dict[str, Any]) -> None:
    entries = state["optimiser"]["state"]
    entries[10**6] = next(iter(entries.values()))


def no_mapping(state: dict[str, Any]) -> None:
    state["optimiser"]["state"] = [1]


def fewer_groups(state: dict[str, Any]) -> None:
    state["optimiser"]["param_groups"] = []


def other_members(state: dict[str, Any]) -> None:
    state["optimiser"]["param_groups"][0]["params"] = "all"


def nothing(state: dict[str, Any]) -> None:
    state["optimiser"] = None


SPOILT = [other_shapes, further_places, no_mapping, fewer_groups, other_members, nothing]


@pytest.mark.parametrize("spoil", SPOILT)
def test_an_optimisers_state_of_another_shape_never_reaches_a_kernel(tmp_path: Path, spoil: Any):
    state = stopped(tmp_path)
    spoil(state)
    torch.save(state, tmp_path / STATE)
    with pytest.raises(ReidpipeError, match="optimiser's state of other.*to start over type rm "):
        train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path)


@pytest.mark.parametrize("name", ["epoch", "task", "optimiser", "hooks", "log_bytes", "sums"])
def test_a_state_that_lacks_something_is_told(tmp_path: Path, name: str):
    state = stopped(tmp_path)
    del state[name]
    torch.save(state, tmp_path / STATE)
    with pytest.raises(ReidpipeError, match="state of another run.*to start over type rm "):
        train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path)
