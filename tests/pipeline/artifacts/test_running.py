"""What steps at work tell, and who may be believed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.about import about
from pipeline.artifacts.atomic import beside
from pipeline.artifacts.locks import holding
from pipeline.artifacts.queue import queued, sweep, waiting_steps
from pipeline.artifacts.running import (
    EVERY_SECONDS,
    Running,
    at_work,
    path_of,
    read_running,
    running_steps,
)
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from tests.pipeline.artifacts import workers


def step(value: int, *, worker: str = "number") -> Step:
    assert worker in workers.KINDS
    return Step(worker, {"value": value})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def trained() -> Step:
    index = Step("index", {"dataset": "mannequins", "seed": 7})
    return Step("model", {"recipe": {"name": "pi-vl-tiny"}, "seed": 1}, {"index": index})


def test_what_a_step_is_about():
    model = trained()
    found = about(Step("evaluation", {}, {"model": model, "index": model.inputs["index"]}))
    assert str(found) == "pi-vl-tiny mannequins seed 1" and found.short == "pi-vl-tiny s1"
    assert str(about(step(1))) == ""
    maps = Step("maps", {"model": "schp-tiny"}, {"index": model.inputs["index"]})
    assert str(about(maps)) == "schp-tiny mannequins"


def test_at_most_two_writes_a_second_and_the_time_left(tmp_path: Path):
    clock, path = Clock(), tmp_path / "maps" / "a.running"
    path.parent.mkdir()
    told = {"step": "maps", "key": "a", "host": "h", "pid": 1, "started": 0.0}
    running = Running(path, told, clock=clock)
    running.begin()
    writes = 0
    written = path.stat().st_mtime_ns
    for done in range(0, 1001, 10):  # ten images in a tenth of a second, for ten seconds
        running.report(done, 2000, "images")
        writes += path.stat().st_mtime_ns != written
        written = path.stat().st_mtime_ns
        found = read_running(path)
        assert found is not None
        if clock.now < 102:
            assert found.left is None
        clock.now += 0.1
    assert 15 <= writes <= 21
    assert found is not None and 950 <= (found.done or 0) <= 1000 and found.total == 2000
    assert found.left == pytest.approx(10, abs=0.6) and found.unit == "images"
    # Of ten images that were done before, nothing is said of speed.
    seen = Running(path, told, clock=clock)
    seen.report(900, 1000, "images")
    clock.now += 10
    seen.report(910, 1000, "images")
    assert (found := read_running(path)) and found.left == 90
    before = path.stat().st_mtime_ns
    clock.now += EVERY_SECONDS / 2
    seen.report(911, 1000, "images")
    assert path.stat().st_mtime_ns == before
    clock.now += EVERY_SECONDS
    seen.report(912, 1000, "images", "epoch\x1b[2J 3")
    assert (found := read_running(path)) and found.done == 912
    assert found.line == "epoch\\x1b[2J 3"


def test_a_shorter_report_leaves_nothing_of_a_longer_one(tmp_path: Path):
    path = tmp_path / "maps" / "a.running"
    path.parent.mkdir()
    told = {"step": "maps", "key": "a", "host": "h", "pid": 1, "started": 0.0}
    for line in ("x" * 400, "y", "é\u202e" * 9000):  # the last does not fit printed, and is cut
        running = Running(path, told)
        running.report(1, 2, "images", line)
        found = read_running(path)
        assert found is not None and found.line[:1] == line[:1] and path.stat().st_size == 4096


def test_a_disk_that_refuses_stops_no_work(tmp_path: Path):
    Running(tmp_path / "absent" / "a.running", {}).report(1, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"pid": "1"}, {"seconds": float("nan")}, {"done": -1}, {"left": True}, {"step": "nothing"},
        {"key": "b"}, {"line": None}, {"host": 3}, {"seed": 1 << 70}, {"total": 1e300},
    ],
)  # fmt: skip
def test_another_shape_is_passed_over(tmp_path: Path, change: dict[str, Any]):
    whole = {
        "step": "maps", "key": "a", "host": "h", "pid": 1, "started": 1.0, "seconds": 2, "unit": "",
        "line": "", "done": 1, "total": None, "left": None,
    }  # fmt: skip
    path = tmp_path / "maps" / "a.running"
    path.parent.mkdir()
    path.write_text(json.dumps(whole))
    assert read_running(path) is not None
    path.write_text(json.dumps(whole | change))
    assert read_running(path) is None


def test_files_that_are_no_files(tmp_path: Path):
    path = tmp_path / "maps" / "a.running"
    path.parent.mkdir()
    for content in (b"", b"[" * 100_000, b"\xff\xfe", b"1" * 6000, b"[]", b"{" * 100_000):
        path.write_bytes(content)
        assert read_running(path) is None
    path.unlink()
    os.mkfifo(path)
    assert read_running(path) is None
    path.unlink()
    path.symlink_to("/dev/zero")
    assert read_running(path) is None


def _make(root: Path, target: Step) -> None:
    Workspace(root).make(target, Execution())


def _started(root: Path, target: Step) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=_make, args=(root, target))
    process.start()
    return process


def _awaited(workspace: Workspace) -> list[Any]:
    until = time.monotonic() + 60
    while not (found := running_steps(workspace)) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def test_another_process_is_seen_and_a_killed_one_leaves_nothing(tmp_path: Path):
    workspace, target = Workspace(tmp_path), step(1, worker="reporting")
    process = _started(tmp_path, target)
    (found,) = _awaited(workspace)
    assert (found.step, found.key, found.pid) == (target.name, target.key, process.pid)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    folder = workspace.folder(target)
    assert path_of(folder).exists() and running_steps(workspace) == []
    (tmp_path / "go").touch()
    workspace.make(target, Execution())
    assert workspace.complete(target) and not path_of(folder).exists()
    log = (folder / "step.log").read_text().splitlines()
    assert log[0].startswith("-- process") and log[0].endswith("was killed")
    assert log[1].startswith("-- begun ") and log[2:-1] == ["half done"]
    assert log[-1].startswith("-- done ")
    assert "step.log" not in workspace.provenance(target)["files"]
    assert workspace.damage(workspace.artifacts()[0]) == []
    assert not [path for path in (tmp_path / "artifacts").rglob("*") if ".tmp-" in path.name]


def test_cache_rm_takes_what_a_killed_process_left(tmp_path: Path):
    workspace, target = Workspace(tmp_path), step(1)
    folder = workspace.folder(target)
    folder.mkdir(parents=True)
    with at_work(folder, target):
        pass
    path_of(folder).write_text("{}")
    assert workspace.remove(workspace.artifacts()[0], unfinished=True)
    assert not path_of(folder).exists()


def test_a_queue_is_seen_until_its_command_is_dead(tmp_path: Path):
    workspace, steps = Workspace(tmp_path), [step(1), step(2), trained()]
    with queued(workspace, steps):
        assert [found.key for found in waiting_steps(workspace)] == [s.key for s in steps]
        assert str(waiting_steps(workspace)[2].about) == "pi-vl-tiny mannequins seed 1"
        with holding(tmp_path / "artifacts" / steps[0].name / f"{steps[0].key}.lock", ""):
            assert len(waiting_steps(workspace)) == 2
        workspace.make(steps[1], replace(Execution()))
        assert [found.key for found in waiting_steps(workspace)] == [steps[0].key, steps[2].key]
        (path,) = (tmp_path / "queue").glob("*.json")
        whole = json.loads(path.read_text())
        for wrong in ({}, [1, {"step": "x"}, {**whole[0], "key": "../x"}], [[]], "x"):
            path.write_text(json.dumps(wrong))
            assert waiting_steps(workspace) == []
    assert not (tmp_path / "queue").exists()
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue" / "h-1.json").write_text(json.dumps(whole))
    (tmp_path / "queue" / "h-1.lock").touch()
    (tmp_path / "queue" / "h-2.lock").touch()
    (tmp_path / "queue" / ".h-2.json.tmp-2").touch()
    assert waiting_steps(workspace) == []
    sweep(workspace)
    assert not (tmp_path / "queue").exists()


def test_what_a_living_command_is_writing_stays(tmp_path: Path):
    workspace = Workspace(tmp_path)
    with queued(workspace, [step(1)]):
        (path,) = (tmp_path / "queue").glob("*.json")
        half, lease = beside(path), path.with_suffix(".lease-0a1b2c3d4e5f0a1b2c3d4e5f")
        older = path.with_name(f".{path.name}.tmp-12")
        for name in (half, lease, older):
            name.touch()
        sweep(workspace)
        assert half.exists() and lease.exists() and older.exists()
    sweep(workspace)  # it is gone
    assert not (tmp_path / "queue").exists()
