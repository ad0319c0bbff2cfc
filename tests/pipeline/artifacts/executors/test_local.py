"""Worker processes of this machine: what they make, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.artifacts import graph
from pipeline.artifacts.executors.local import visible
from pipeline.artifacts.store import Execution, Workspace
from pipeline.terminal.errors import ReidpipeError
from tests.conftest import PROJECT
from tests.pipeline.artifacts.executors.test_walking import ROOT, step

TWO = Execution(jobs=2, threads=1, device="cpu")


def calls(root: Path) -> list[list[str]]:
    return [line.split() for line in (root / "calls.txt").read_text().splitlines()]


def digests(workspace: Workspace) -> dict[str, str]:
    return {
        f"{found.step}/{found.key}/{name}": entry["sha256"]
        for found in workspace.artifacts()
        if (mark := found.mark()) is not None
        for name, entry in mark["files"].items()
    }


@pytest.mark.slow
def test_side_by_side_makes_the_same_once_and_survives_what_fails(tmp_path: Path):
    alone, both = Workspace(tmp_path / "alone"), Workspace(tmp_path / "both")
    good = [step(1, ROOT), step(2, ROOT), step(3, step(4, ROOT), name="died_once")]
    bad = [step(5, ROOT, name="mistaken"), step(6, step(7, ROOT, name="broken"))]
    graph.run(alone, good[:2], Execution(threads=1))
    before = sorted(Path().iterdir())
    outcome = graph.attempt(both, [*good, *bad], TWO, first=[ROOT], check=lambda _: None)

    assert [value for value, _ in calls(both.root)].count("0") == 1
    # A chain, such as the first step, is made here; the others elsewhere, by two and one more.
    made_by = {value: int(pid) for value, pid in calls(both.root)}
    assert made_by.pop("0") == os.getpid() and os.getpid() not in made_by.values()
    assert digests(alone).items() <= digests(both).items()
    assert all(one in outcome.made for one in good) and outcome.left == (bad[1],)
    errors = {failed.step.name: failed.error for failed in outcome.failed}
    assert str(errors["mistaken"]) == "found 5; expected another; type it"
    assert type(errors["mistaken"]) is ReidpipeError
    ours = errors["broken"]
    assert type(ours) is ValueError and ours.__notes__ == ["a note"]
    assert isinstance(ours.__cause__, KeyError) and isinstance(ours.__context__, OSError)
    trace, lines = ours.__traceback__, []
    while trace is not None:
        lines.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert lines[-1] == "broken"
    assert sorted(Path().iterdir()) == before
    for pid in made_by.values():
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_step_that_kills_its_workers_is_given_up(tmp_path: Path):
    workspace = Workspace(tmp_path)
    deadly, fine = step(1, name="deadly"), step(2)
    outcome = graph.attempt(workspace, [deadly, fine], TWO, first=(), check=lambda _: None)
    assert outcome.made == (fine,)
    assert "found 4 workers that died at deadly" in str(outcome.failed[0].error)
    assert (tmp_path / "deaths.txt").read_text() == "xxxx"


SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pipeline.artifacts import graph
from tests.pipeline.artifacts.executors.test_local import TWO, step, Workspace
if __name__ == "__main__":
    graph.run(Workspace(sys.argv[2]), [step(1, name="long"), step(2, name="long")], TWO)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_workers_end_when_the_command_does(tmp_path: Path, how: signal.Signals):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(PROJECT), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    told = [tmp_path / "pid-1", tmp_path / "pid-2"]
    end = time.monotonic() + 90
    while not all(path.exists() and path.read_text() for path in told):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)
    pids = [int(path.read_text()) for path in told]
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    _, text = process.communicate(timeout=30)
    end = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    if how == signal.SIGINT:
        assert text.splitlines()[-1] == "KeyboardInterrupt" and text.count("Traceback") == 1
    else:
        assert text == ""


@pytest.mark.parametrize(
    ("typed", "gpus"),
    [
        ("", []),
        ("-1", []),
        ("none", []),
        ("0, 2", ["0", "2"]),
        ("1,-1,0", ["1"]),
        ("GPU-8932f937,MIG-GPU-8932/1/0", ["GPU-8932f937", "MIG-GPU-8932/1/0"]),
    ],
)
def test_gpus_are_read_as_cuda_reads_them(typed: str, gpus: list[str]):
    assert visible(typed) == gpus
