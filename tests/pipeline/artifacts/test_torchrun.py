"""Processes of torchrun beside another process that makes the same artifact."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import torchrun
from pipeline.artifacts.kinds import KINDS, Kind
from pipeline.artifacts.steps import Job, Step
from pipeline.artifacts.store import Execution, Workspace

KINDS["together"] = Kind(f"{__name__}:together", 1, collective=True)
STEP = Step("together", {})
context = multiprocessing.get_context("spawn")


def together(job: Job) -> dict[str, Any]:
    """Under torchrun wait for both processes, as a process group does; else take a second."""
    rank = os.environ.get("RANK")
    with (job.workspace / "calls.txt").open("a") as file:
        file.write(f"{rank}\n")
    if rank is None:
        (job.workspace / "begun").touch()
        time.sleep(1.0)
    else:
        (job.workspace / f"here-{rank}").touch()
        await_that(lambda: all((job.workspace / f"here-{n}").exists() for n in (0, 1)))
    return {}


def await_that(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "nobody came"
        time.sleep(0.02)


def make(root: Path, rank: int | None) -> None:
    if rank is not None:
        os.environ["RANK"] = str(rank)
    Workspace(root).make(STEP, Execution())
    assert Workspace(root).complete(STEP)


def finished(processes: list[Any]) -> list[int | None]:
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def calls(root: Path) -> list[str]:
    return sorted((root / "calls.txt").read_text().split())


def test_torchrun_beside_another_process_on_the_same_artifact(tmp_path: Path) -> None:
    other = context.Process(target=make, args=(tmp_path, None))
    other.start()
    await_that((tmp_path / "begun").exists)
    ranks = [context.Process(target=make, args=(tmp_path, rank)) for rank in (1, 0)]
    for process in ranks:
        process.start()
    assert finished([other, *ranks]) == [0, 0, 0]
    assert calls(tmp_path) == ["None"]


def test_what_a_killed_launch_left_calls_nobody(tmp_path: Path) -> None:
    folder = Workspace(tmp_path).folder(STEP)
    folder.mkdir(parents=True)
    left = context.Process(target=call_and_die, args=(folder,))
    left.start()
    assert finished([left]) == [-9]
    (path,) = folder.parent.glob("*.call")
    assert not torchrun.called(folder)
    ranks = [context.Process(target=make, args=(tmp_path, rank)) for rank in (1, 0)]
    ranks[0].start()
    time.sleep(1.0)
    assert not (tmp_path / "calls.txt").exists()
    ranks[1].start()
    assert finished(ranks) == [0, 0]
    assert calls(tmp_path) == ["0", "1"] and not path.exists()


def call_and_die(folder: Path) -> None:
    os.environ["RANK"] = "0"
    with torchrun.calling(folder):
        os.kill(os.getpid(), 9)


def test_a_call_is_heard_in_its_own_launch_alone(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "key"
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert not torchrun.called(folder)
    with torchrun.calling(folder):
        assert torchrun.called(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MASTER_PORT", "29501")
            assert not torchrun.called(folder)
    assert not torchrun.called(folder) and not list(tmp_path.iterdir())
