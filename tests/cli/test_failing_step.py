"""One recipe of several fails: the others are made and shown, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from pipeline.terminal.errors import ReidpipeError
from tests.cli.conftest import TRAIN, Console
from tests.conftest import PROJECT

PLUGIN = '''
"""A loss that fails while its file is not there."""
from pathlib import Path

from torch import nn

from pipeline.plugins import register
from pipeline.terminal.errors import ReidpipeError


@register.loss("failing")
class Failing(nn.Module):
    def __init__(self, flag: str, ours: bool):
        super().__init__()
        self.flag, self.ours = Path(flag), ours

    def forward(self, logits, labels):
        if not self.flag.exists():
            if self.ours:
                raise KeyError("a bug of the loss")
            raise ReidpipeError("found no flag; expected one; type touch")
        return nn.functional.cross_entropy(logits, labels)
'''
RECIPE = """
base: baseline-tiny
set:
  stages.0.losses: [{{loss: failing, on: identity, options: {{flag: {flag}, ours: {ours}}}}}]
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("ours", [False, True], ids=["mistake", "bug"])
def test_the_others_are_made(trained: Console, tmp_path: Path, jobs: int, ours: bool):
    flag = tmp_path / "mended"
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "failing.yaml").write_text(RECIPE.format(flag=flag, ours=str(ours).lower()))
    words = ["--plugin", "plugin.py", "run", "baseline-tiny", "failing.yaml", "--dataset", "folder"]
    words += ["--seed", "1", *TRAIN, "--device", "cpu", "--jobs", str(jobs)]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reid_train", "--workspace", str(trained.root), *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )

    failed = run()
    assert failed.returncode == (1 if ours else 2), failed.stderr
    assert "baseline-tiny  folder" in failed.stdout and "mAP" in failed.stdout
    lines = failed.stderr.splitlines()
    why = "KeyError: 'a bug of the loss'" if ours else "found no flag; expected one; type touch"
    (line,) = [line for line in lines if line.startswith("failed model ") and "(log " in line]
    assert why in line
    log = Path(line.rpartition("(log ")[2].rstrip(")"))
    assert log.name == "step.log" and log.parent.parent.name == "model"
    assert any(line.startswith("left evaluation ") and "stands on model" in line for line in lines)
    assert any("failed 1, left 1" in line for line in lines)
    assert ("Traceback" in failed.stderr) == ours
    if ours:
        assert "in forward" in failed.stderr  # wherever it was raised
    else:
        assert lines[-1] == f"Error: {why}"

    if ours:
        return
    flag.touch()
    mended = run()
    assert mended.returncode == 0, mended.stderr
    assert "failing" in mended.stdout and "baseline-tiny" in mended.stdout
    assert "making model" in mended.stderr and mended.stderr.count("making ") == 2


@pytest.mark.parametrize("how", ["stopped", "no evaluation"])
def test_a_finished_model_of_an_unfinished_table_is_a_run(
    trained: Console, how: str, monkeypatch: pytest.MonkeyPatch
):
    usual = Workspace.make

    def make(workspace: Workspace, step: Step, execution: Execution) -> Path:
        if how == "stopped" and (step.name, step.params.get("seed")) == ("model", 2):
            raise KeyboardInterrupt
        if how == "no evaluation" and step.name == "evaluation":
            raise ReidpipeError("found no room; expected some; type df")
        return usual(workspace, step, execution)

    words = ("run", "baseline-tiny", "--dataset", "folder", "--seed", "1-2", *TRAIN)
    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "make", make)
        trained(*words, "--device", "cpu", code=130 if how == "stopped" else 2)
    found = {run["seed"]: run for run in trained.json("status")["runs"]}
    # The first one, 0, is the fixture's.
    assert sorted(found) == ([0, 1] if how == "stopped" else [0, 1, 2])
    assert {run["state"] for run in found.values()} == {"ready"}
    assert trained.json("eval", found[1]["run"], "--device", "cpu")["run"] == found[1]["run"]


@pytest.mark.slow
def test_models_are_runs_while_workers_make_the_others(trained: Console, tmp_path: Path):
    words = ["run", "baseline-tiny", "--dataset", "folder", "--seed", "1-9", *TRAIN]
    err = tmp_path / "err"
    with err.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "reid_train", "--workspace", str(trained.root), *words,
             "--device", "cpu", "--jobs", "2"],
            cwd=PROJECT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while len(list((trained.root / "runs").glob("*/run.json"))) < 2:  # one was there before
            assert process.poll() is None and time.monotonic() < end, err.read_text()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, err.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    found = trained.json("status")
    complete = [
        row["key"]
        for row in found["artifacts"]
        if (row["step"], row["state"]) == ("model", "complete")
    ]
    assert len(found["runs"]) == len(complete) < 10
    assert {run["run"][-6:] for run in found["runs"]} == {key[:6] for key in complete}
