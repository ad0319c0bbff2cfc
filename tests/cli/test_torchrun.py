"""Training as two processes, from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, Console

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_processes_train_one_model(people: Path, tmp_path: Path) -> None:
    console = Console(tmp_path / "workspace")
    console("prepare", "folder", "--root", people, "--size", "32x16", "--filter", "bilinear")
    words = ["--workspace", str(console.root), "train", "--dataset", "folder", *TRAIN]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    finished = subprocess.run(
        [*launcher, "--master-addr", "127.0.0.1", "-m", "cli", *words, "--device", "cpu"],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("run baseline-tiny-folder-s0") == 1
    metrics = console.json("eval")
    assert metrics["recipe"] == "baseline-tiny" and metrics["valid_queries"] == 12
