"""Ctrl-C in a real process: one line that says what continues, and the same command does."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from pipeline.artifacts import graph
from tests.cli.conftest import TRAIN, Console
from tests.conftest import PROJECT

EPOCHS = 10
WORDS = (
    "train", "baseline-tiny", "--dataset", "folder", *TRAIN[:2], *TRAIN[4:],
    "--epochs", str(EPOCHS), "--log", "csv,tensorboard", "--device", "cpu",
)  # fmt: skip


def started(console: Console, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "reid_train", "--workspace", str(console.root), *words],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(console: Console) -> Path:
    process = started(console, *WORDS)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    (folder,) = [
        model.parent
        for model in (console.root / "artifacts" / "model").glob("*/log.csv")
        if len(model.read_text().splitlines()) == EPOCHS + 1
    ]
    return folder


@pytest.mark.slow
def test_a_stopped_training_continues_to_the_same_bytes(trained: Console, tmp_path: Path):
    whole = Console(tmp_path / "whole")
    shutil.copytree(trained.root, whole.root)
    process = started(trained, *WORDS)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"image: epoch 3/{EPOCHS}, loss "):
            break
    os.killpg(process.pid, signal.SIGINT)
    told = process.stderr.read().splitlines()
    assert process.wait(60) == 130
    assert told[-1].startswith("Stopped. ") and "the same command continues: python -m" in told[-1]
    assert told[-1].endswith(shlex.join(WORDS))
    assert all(line.startswith("image: epoch ") for line in told[:-1])

    folders = [finished(trained), finished(whole)]
    weights = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
    for folder in folders:
        with (folder / "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["epoch"]) for row in rows] == [*range(1, EPOCHS + 1)]
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        losses = events.Scalars("image/loss")
        assert [event.step for event in losses] == [*range(1, EPOCHS + 1)]
        assert [event.value for event in losses] == pytest.approx(
            [float(row["loss"]) for row in rows], rel=1e-6
        )
    assert trained("cache", "verify").stdout.startswith("all files are")


@pytest.mark.slow
def test_stopped_with_worker_processes(console: Console):
    """The terminal's Ctrl-C reaches them too, and their end is not told as a mistake."""
    process = started(console, "prepare")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("making index"):
            break
    time.sleep(4)  # until they are at work
    os.killpg(process.pid, signal.SIGINT)
    told = process.stderr.read().splitlines()
    assert process.wait(60) == 130
    assert [line for line in told if line.startswith("Stopped. ")] == told[-1:]
    assert not any("Traceback" in line or "Error" in line for line in told)


def test_killed_between_the_model_and_its_mark(trained: Console):
    """What training goes on from is no part of a model, whenever it was killed."""
    (mark,) = (trained.root / "artifacts" / "model").glob("*/artifact.json")
    files = json.loads(mark.read_text())["files"]
    mark.unlink()
    (mark.parent / "state.pt").write_bytes(b"the last position")
    trained("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    assert not (mark.parent / "state.pt").exists()
    assert json.loads(mark.read_text())["files"] == files


def test_a_command_is_told_as_it_was_typed(console: Console, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(graph, "run", stop)
    line = ["--workspace", str(console.root), "prepare", "--size", "32x16"]
    result = CliRunner().invoke(cli.main, line, prog_name="reidpipe")
    assert result.exit_code == 130 and not result.stdout
    typed = f"reidpipe --workspace {console.root} prepare --size 32x16"
    assert result.stderr == (
        f"Stopped. What is made is kept; the same command continues: {typed}\n"
    )
