from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artifacts.processes import IN_FLIGHT, spread, spread_pinned, spread_streamed
from pipeline.artifacts.running import Running
from pipeline.terminal.errors import ReidpipeError

PROJECT = Path(__file__).resolve().parents[3]


def double(items: list[int]) -> list[int]:
    return [2 * item for item in items]


def tagged(items: list[object], *, tag: str) -> list[object]:
    return [(tag, item) for item in items]


def picky(items: list[int]) -> list[int]:
    results = []
    for item in items:
        if item == 37:
            raise ValueError("cannot work with this one")
        results.append(item)
    return results


def user_error(items: list[int]) -> list[int]:
    raise ReidpipeError("found x; expected y; type z")


def touched(paths: list[Path]) -> list[Path]:
    for path in paths:
        path.touch()
    return paths


def full_disk(items: list[int]) -> list[int]:
    raise OSError(28, "No space left on device", "/somewhere")


def forgetful(items: list[int]) -> list[int]:
    return list(items)[1:]


def witness(items: list[int]) -> list[tuple[int, int, bool]]:
    return [(item, os.getpid(), "torch" in sys.modules) for item in items]


def killed(items: list[int]) -> list[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return items


@settings(deadline=None)
@given(st.lists(st.integers()), st.integers(1, 7))
def test_order_and_length_for_any_chunk(items: list[int], chunk: int) -> None:
    assert spread(double, items, workers=1, chunk=chunk) == [2 * item for item in items]


def test_processes_keep_the_order_and_start_without_torch() -> None:
    results = spread(witness, range(20), workers=2, chunk=3, worthwhile=10)
    assert [item for item, _, _ in results] == list(range(20))
    assert os.getpid() not in {pid for _, pid, _ in results}
    assert not any(torch for _, _, torch in results)


def test_few_items_start_no_process() -> None:
    results = spread(witness, range(19), workers=2, chunk=1, worthwhile=10)
    assert {pid for _, pid, _ in results} == {os.getpid()}


def test_items_that_look_like_tasks_and_keys_stay_items() -> None:
    items = [("chunk", 0), "chunk", (len, "abc"), ["nested", ("chunk", 1)], {"chunk": 0}]
    result = spread(partial(tagged, tag="t"), items, workers=2, chunk=2)
    assert result == [("t", item) for item in items]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_keeps_its_type_and_names_the_item(workers: int) -> None:
    with pytest.raises(ValueError, match="cannot work with this one") as caught:
        spread(picky, range(100), workers=workers, chunk=10)
    assert str(caught.value) == "cannot work with this one"
    assert "while working on item 37" in caught.value.__notes__


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_errors_arrive_as_they_left(workers: int) -> None:
    with pytest.raises(ReidpipeError) as caught:
        spread(user_error, range(4), workers=workers, chunk=2)
    assert type(caught.value) is ReidpipeError
    assert str(caught.value) == "found x; expected y; type z"
    with pytest.raises(OSError) as full:
        spread(full_disk, range(4), workers=workers, chunk=2)
    assert (full.value.errno, full.value.filename) == (28, "/somewhere")


class Asked(Sequence[int]):
    """0, 1, 2, ...: remembers how far it was asked for."""

    def __init__(self, count: int) -> None:
        self.total, self.reached = count, 0

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, place: Any) -> Any:
        self.reached = max(self.reached, place.stop)
        return range(*place.indices(self.total))


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_chunks_are_held_than_are_under_way(workers: int) -> None:
    items, chunk, taken, ahead = Asked(3000), 5, 0, 0
    for result in spread_streamed(double, items, workers=workers, chunk=chunk):
        assert result == 2 * taken
        ahead = max(ahead, items.reached - taken)
        taken += 1
    assert taken == items.total
    assert ahead <= chunk * (IN_FLIGHT * workers if workers > 1 else 1)


def test_what_is_not_taken_is_not_done(tmp_path: Path) -> None:
    results = spread_streamed(touched, [tmp_path / str(n) for n in range(90)], workers=2, chunk=1)
    assert next(results).name == "0"
    results.close()
    assert 1 <= len(list(tmp_path.iterdir())) < 30


def test_lost_results_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="1 results for 2 items"):
        spread(forgetful, [1, 2], workers=1)


def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(ReidpipeError, match="killed from outside.*--workers 1") as caught:
        spread(killed, range(4), workers=2, chunk=2)
    assert "\n" not in str(caught.value)


class Heard(Running):
    """What was reported."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, float | None, str]] = []

    def report(
        self, done: float, total: float | None = None, unit: str = "", line: str = ""
    ) -> None:
        assert not line
        self.reports.append((done, total, unit))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_done_is_reported(workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    heard = Heard()
    spread(double, range(10), workers=workers, chunk=4, running=heard, unit="numbers")
    assert sorted(heard.reports)[0] == (0, 10, "numbers")
    assert sorted(heard.reports)[-1] == (10, 10, "numbers") and len(heard.reports) == 4
    assert capfd.readouterr() == ("", "")


def test_what_is_done_is_reported_from_several_at_once() -> None:
    heard = Heard()
    spread_pinned([double, double], range(10), chunk=5, running=heard)
    assert heard.reports == [(0, 10, "images"), (5, 10, "images"), (10, 10, "images")]


def launched(items: list[int]) -> list[list[str]]:
    """What says that this process is one of torchrun's."""
    words = ("RANK", "WORLD_SIZE", "MASTER_", "TORCHELASTIC_", "ROLE_")
    return [sorted(n for n in os.environ if any(word in n for word in words))] * len(items)


def test_processes_that_torchrun_s_start_are_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "ROLE_RANK": "0", "ROLE_WORLD_SIZE": "2",
        "ROLE_NAME": "default", "MASTER_ADDR": "a", "MASTER_PORT": "1",
        "TORCHELASTIC_RUN_ID": "r", "TORCHELASTIC_RESTART_COUNT": "0",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert spread_pinned([launched, launched], [0, 1], chunk=1) == [[], []]
    assert spread(launched, [0, 1], workers=2, chunk=1) == [[], []]
    assert launched([0]) == [sorted(variables)]  # this process stays one


def test_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.artifacts.executors.cluster.CONNECT_SECONDS", 0.5)
    with pytest.raises(ReidpipeError, match="no dask scheduler at tcp://127.0.0.1:1"):
        spread(double, range(4), workers=1, scheduler="tcp://127.0.0.1:1")


@pytest.mark.slow
def test_a_cluster_gives_the_same() -> None:
    from distributed import LocalCluster

    cluster: Any = LocalCluster(
        host="127.0.0.1", n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    )
    with cluster:
        address = cluster.scheduler_address
        items = list(range(50))
        expected = [2 * item for item in items]
        assert spread(double, items, workers=1, scheduler=address, chunk=7) == expected
        with pytest.raises(ValueError, match="cannot work") as caught:
            spread(picky, range(100), workers=1, scheduler=address, chunk=10)
        assert "while working on item 37" in caught.value.__notes__


@pytest.mark.slow
def test_a_cluster_started_beside_modules_of_the_user(tmp_path: Path) -> None:
    """Scheduler and worker find ``pipeline`` in their folder and on PYTHONPATH: not ours."""
    for name in ("cli.py", "pipeline.py", "parsing_models.py"):
        (tmp_path / name).write_text("raise RuntimeError('a module of the user')\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"}
    dask = (sys.executable, "-m", "dask")
    serving = ("--host", "127.0.0.1", "--no-dashboard")
    about = tmp_path / "scheduler.json"
    with contextlib.ExitStack() as stack:

        def start(*words: str | Path) -> None:
            process = subprocess.Popen([*dask, *words], cwd=tmp_path, env=environment)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start("scheduler", *serving, "--port", "0", "--scheduler-file", about)
        deadline = time.monotonic() + 60
        while not about.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        address = json.loads(about.read_text())["address"]
        start("worker", address, *serving, "--nthreads", "1")
        expected = [2 * item for item in range(20)]
        assert spread(double, range(20), workers=1, scheduler=address, chunk=7) == expected


SLEEPER = """
    import os, sys, time
    from pathlib import Path
    from pipeline.artifacts.processes import IN_FLIGHT, spread, spread_streamed

    def sleep(items):
        (Path(sys.argv[1]) / str(os.getpid())).touch()
        time.sleep(600)
        return items

    if __name__ == "__main__":
        spread(sleep, range(4), workers=2, chunk=1)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    (tmp_path / "sleeper.py").write_text(textwrap.dedent(SLEEPER))
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "sleeper.py", pids],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    try:
        deadline = time.monotonic() + 60
        while len(list(pids.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        workers = [int(path.name) for path in pids.iterdir()]
        assert len(workers) == 2
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 5
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [pid for pid in workers if alive(pid)]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert left == []
