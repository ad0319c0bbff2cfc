"""Training as two processes, from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, Console

PROJECT = Path(__file__).resolve().parents[2]


PARTS = [
    *("--pretrained", "none"),
    *(
        word
        for value in (
            "stages.identity-prompts.epochs=1",
            "stages.part-prompts.epochs=1",
            "stages.image.epochs=1",
            "stages.image.data.ids=2",
            "stages.image.data.images_per_id=2",
            "model.options={width: 8, heads: 4}",
            "model.text.options={layers: 1, width: 32, heads: 2}",
        )
        for word in ("--set", value)
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [("baseline-tiny", TRAIN), ("pi-vl-tiny", PARTS)],
    ids=["plain", "parts"],
)
def test_two_processes_train_one_model(
    people: Path, tmp_path: Path, recipe: str, settings: list[str]
) -> None:
    console = Console(tmp_path / "workspace")
    console("prepare", "folder", "--root", people, "--size", "32x16", "--filter", "bilinear")
    words = ["--workspace", str(console.root), "train", recipe, "--dataset", "folder", *settings]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    # Port 0: any that is free.
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    finished = subprocess.run(
        [*launcher, "-m", "cli", *words, "--device", "cpu"],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    # Label maps, features and texts are made by one process while the other waits.
    assert finished.stdout.count(f"run {recipe}-folder-s0") == 1
    metrics = console.json("eval")
    assert metrics["recipe"] == recipe and metrics["valid_queries"] == 12
