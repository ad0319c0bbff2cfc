"""Bytes do not depend on the cores that a command may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, Console
from tests.conftest import PROJECT

CHOSEN = ("OMP_NUM_THREADS", "REIDPIPE_THREADS")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_one_core_and_all_train_the_same_model(people: Path, tmp_path: Path):
    cores = os.sched_getaffinity(0)
    models = []
    for name, usable in (("one", {min(cores)}), ("all", cores)):
        root = tmp_path / name
        Console(root)("prepare", "folder", "--root", people, "--size", "32x16")
        for recorded in (root / "machines").glob("*.json"):
            recorded.unlink()  # this process may have been told how many threads it has
        words = ["train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--jobs", "1"]
        subprocess.run(
            [sys.executable, "-m", "reid_train", "--workspace", str(root), *words],
            cwd=PROJECT,
            env={name: value for name, value in os.environ.items() if name not in CHOSEN},
            check=True,
            preexec_fn=lambda usable=usable: os.sched_setaffinity(0, usable),
        )
        (model,) = root.glob("artifacts/model/*/model.safetensors")
        models.append(model.read_bytes())
    assert models[0] == models[1]
