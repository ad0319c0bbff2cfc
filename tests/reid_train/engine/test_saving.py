"""The training state is written while training goes on, and is as it was when it was due."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from reid_train.engine import loop
from reid_train.engine.checkpoint import load_state
from reid_train.engine.loop import STATE, train
from reid_train.engine.runtime import Runtime
from reid_train.engine.saving import apart
from tests.reid_train.toy import Toy, ToyBatches, plain_stage

RUNTIME = Runtime.create("cpu")


class Signalling(ToyBatches):
    """Tells when an epoch has come to its fourth batch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.wanted, self.reached = epoch, threading.Event()

    def epoch(self, epoch: int, rank: int, world: int):
        for step, batch in enumerate(super().epoch(epoch, rank, world)):
            if (epoch, step) == (self.wanted, 3):
                self.reached.set()
            yield batch


def test_training_goes_on_while_its_state_is_written(tmp_path: Path, monkeypatch):
    batches, write, overtaken = Signalling(1), loop.save_state, []

    def slow(path: Path, state: dict[str, Any]) -> None:
        if state["epoch"] == 1:
            overtaken.append(batches.reached.wait(20))
            write(tmp_path / "first.pt", state)
        write(path, state)

    monkeypatch.setattr(loop, "save_state", slow)
    train(Toy(), [plain_stage(batches=batches)], runtime=RUNTIME, folder=tmp_path / "long")
    assert overtaken == [True]
    # Three more steps of the optimiser were taken before it was written: it knows nothing of them.
    monkeypatch.undo()
    train(Toy(), [plain_stage(epochs=1)], runtime=RUNTIME, folder=tmp_path / "short")
    late, early = load_state(tmp_path / "first.pt"), load_state(tmp_path / "short" / STATE)
    assert all(torch.equal(late["task"][key], value) for key, value in early["task"].items())
    averages = [state["optimiser"]["state"] for state in (late, early)]
    for place, values in averages[1].items():
        assert all(torch.equal(averages[0][place][name], values[name]) for name in values)
    assert load_state(tmp_path / "long" / STATE)["epoch"] == 2


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_state_that_cannot_be_written_stops_training(tmp_path: Path, monkeypatch, epochs: int):
    """At the next state, or at the end, with the error of the disk."""
    batches, tried = Signalling(1), []

    def full(path: Path, state: dict[str, Any]) -> None:
        tried.append(state["epoch"])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(loop, "save_state", full)
    stage = plain_stage(epochs=epochs, batches=batches)
    with pytest.raises(OSError, match="No space left") as error:
        train(Toy(), [stage], runtime=RUNTIME, folder=tmp_path)
    assert error.value.errno == errno.ENOSPC and tried == [1]
    assert batches.reached.is_set() == (epochs > 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "state"]


def test_one_state_is_written_at_a_time_and_none_is_left_out(tmp_path: Path, monkeypatch):
    write, at_work, seen = loop.save_state, threading.Lock(), []

    def alone(path: Path, state: dict[str, Any]) -> None:
        assert at_work.acquire(blocking=False), "two at once"
        time.sleep(0.01)
        write(path, state)
        seen.append((state["epoch"], state["step"]))
        at_work.release()

    monkeypatch.setattr(loop, "save_state", alone)
    train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path, save_every=2)
    assert seen == [(0, 2), (0, 4), (1, 0), (1, 2), (1, 4), (2, 0)]


def test_who_is_called_after_an_epoch_finds_its_state(tmp_path: Path, monkeypatch):
    write, found = loop.save_state, []

    def slow(path: Path, state: dict[str, Any]) -> None:
        time.sleep(0.05)
        write(path, state)

    monkeypatch.setattr(loop, "save_state", slow)
    train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path,
          after_epoch=lambda _: found.append(load_state(tmp_path / STATE)["epoch"]))  # fmt: skip
    assert found == [1, 2]


def test_two_errors_are_both_told(tmp_path: Path, monkeypatch, caplog):
    class Stop(Exception):
        pass

    class Stopping(ToyBatches):
        def epoch(self, epoch: int, rank: int, world: int):
            if epoch:
                raise Stop
            yield from super().epoch(epoch, rank, world)

    def full(path: Path, state: dict[str, Any]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(loop, "save_state", full)
    with pytest.raises(Stop):
        train(Toy(), [plain_stage(batches=Stopping())], runtime=RUNTIME, folder=tmp_path)
    assert "state was not written: [Errno 28] No space left" in caplog.text


def test_a_copy_is_apart_and_what_is_one_stays_one():
    shared = torch.arange(6.0).reshape(2, 3)
    state = {"a": shared.T, "b": [shared.T, shared[0]], "c": (1, None, "x"), "d": torch.zeros(0)}
    copy = apart(state, RUNTIME)
    shared.zero_()
    assert copy["a"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert copy["a"].stride() == shared.T.stride() and copy["b"][1].tolist() == [0.0, 1.0, 2.0]
    assert copy["b"][0] is copy["a"] and copy["c"] == (1, None, "x") and copy["d"].numel() == 0
