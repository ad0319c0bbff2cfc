"""``run`` with several recipes and seeds on workers: the bytes of one process, whatever dies."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.artifacts.running import running_steps
from pipeline.artifacts.store import Workspace
from tests.chaos.children import session
from tests.chaos.equality import compare
from tests.cli.conftest import Console
from tests.conftest import PROJECT

# Maps, features, prompts and texts of pi-vl are shared by what stands on them.
RUN = ["run", "baseline-tiny", "clip-reid-tiny", "pi-vl-tiny", "--dataset", "folder"]
RUN += ["--seed", "0-1", "--device", "cpu"]
for setting in (
    "input.size=[32,16]",
    "stages.image.epochs=1",
    "stages.image.data.ids=2",
    "stages.image.data.images_per_id=2",
):
    RUN += ["--set", setting]


def started(
    words: list[str], place: Path, err: Path, module: str = "reid_train"
) -> subprocess.Popen:
    """A process in ``place`` with a session and a temporary folder of its own; what it says lies in
    ``err``.
    """
    place.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k != "REIDPIPE_JOBS"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), "TMPDIR": str(place)}
    with err.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=place,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )


@pytest.fixture(scope="session")
def prepared(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the dataset ``folder``."""
    root = tmp_path_factory.mktemp("prepared") / "workspace"
    Console(root)("prepare", "folder", "--root", people, "--size", "32x16", "--filter", "bilinear")
    return root


@pytest.fixture(scope="session")
def in_turn(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``run --jobs 1`` makes."""
    place = tmp_path_factory.mktemp("turn")
    root = shutil.copytree(prepared, place / "workspace")
    finish(started(["--workspace", str(root), *RUN, "--jobs", "1"], place / "at", place / "err"))
    return root


def finish(process: subprocess.Popen, seconds: float = 300) -> None:
    try:
        assert process.wait(seconds) == 0
    finally:
        kill_session(process)


def kill_session(process: subprocess.Popen) -> None:
    for pid in session(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_jobs_make_the_bytes_of_one_process(prepared: Path, in_turn: Path, tmp_path: Path):
    root = shutil.copytree(prepared, tmp_path / "workspace")
    process = started(
        ["--workspace", str(root), *RUN, "--jobs", "2"], tmp_path / "at", tmp_path / "err"
    )
    finish(process)
    told = compare(root, in_turn)
    assert told.faults == [] and told.same["model.safetensors"] == 6
    text = (tmp_path / "err").read_text()
    assert text.count("making maps") == 1
    assert not list((tmp_path / "at").glob("reidpipe-workers-*"))


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A scheduler on loopback and three workers by hand, each in a folder of its own."""
    file = tmp_path / "scheduler.json"
    words = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    words += ["--scheduler-file", str(file)]
    processes = [started(words, tmp_path / "scheduler", tmp_path / "scheduler.err", "dask")]
    try:
        end = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        words = ["worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny"]
        words += ["--host", "127.0.0.1", "--no-dashboard"]
        for number in range(3):
            err = tmp_path / f"worker-{number}.err"
            processes.append(started(words, tmp_path / f"worker-{number}", err, "dask"))
        yield str(file), processes[1:]
    finally:
        for process in processes:
            kill_session(process)


@pytest.mark.slow
def test_two_of_three_workers_die(
    workers: tuple[str, list[subprocess.Popen]], prepared: Path, in_turn: Path, tmp_path: Path
):
    file, three = workers
    draw = random.Random("two of three workers")
    root = shutil.copytree(prepared, tmp_path / "workspace")
    words = ["--workspace", str(root), *RUN, "--scheduler", file]
    process = started(words, tmp_path / "at", tmp_path / "err")
    try:
        for kill in range(2):
            struck = None
            while struck is None and process.poll() is None:
                time.sleep(draw.uniform(0.2, 1.5))
                # By now a process of the cluster says in a file which step it is at.
                busy = {step.pid for step in running_steps(Workspace(root))}
                struck = next((one for one in three if one.pid in busy), None)
            assert struck is not None, f"no step to strike, {kill} struck"
            three.remove(struck)
            kill_session(struck)
    except BaseException:
        kill_session(process)
        raise
    finish(process)
    told = compare(root, in_turn)
    assert told.faults == [] and told.same["model.safetensors"] == 6
    text = (tmp_path / "err").read_text()
    # A worker that waits for the chunks of one step may be at another.
    assert text.count("its worker died; it goes on elsewhere") >= 2 and "Traceback" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "when"),
    [
        (signal.SIGINT, "at once"),
        (signal.SIGTERM, "the pool starts"),
        (signal.SIGINT, "steps run"),
    ],
)
def test_signals_leave_nothing(number: signal.Signals, when: str, prepared: Path, tmp_path: Path):
    root = shutil.copytree(prepared, tmp_path / "workspace")
    at, err = tmp_path / "at", tmp_path / "err"
    process = started(["--workspace", str(root), *RUN, "--jobs", "2"], at, err)
    try:
        end = time.monotonic() + 90
        while not {
            "at once": time.monotonic() > end - 89.5,
            "the pool starts": any(at.glob("reidpipe-workers-*/")),
            "steps run": "epoch 2/" in err.read_text(),
        }[when]:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        began = time.monotonic()
        assert process.wait(20) == 128 + number
        while session(process.pid) and time.monotonic() < began + 20:
            time.sleep(0.02)
        taken = time.monotonic() - began
    finally:
        kill_session(process)
    text = err.read_text()
    assert text.count("Stopped. ") == 1 and text.splitlines()[-1].startswith("Stopped. ")
    assert "Traceback" not in text and "distributed" not in text
    assert not list(at.glob("reidpipe-workers-*")) and not list(at.glob("dask-*"))
    assert taken < 8, taken  # 2 on a quiet machine
