"""A training on workers elsewhere, in two processes each: equal to torchrun's to the byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, Console
from tests.conftest import PROJECT
from tests.pipeline.artifacts.executors.test_launching import sshd  # noqa: F401


@pytest.mark.slow
def test_a_training_on_a_cluster_behind_ssh(
    sshd: list[str],  # noqa: F811
    trained: Console,
    tmp_path: Path,
) -> None:
    shutil.copytree(trained.root, tmp_path / "torchrun")
    place = [word for text in sshd for word in ("--cluster-option", text)]
    training = ["baseline-tiny", "--dataset", "folder", *TRAIN, "--seed", "3", "--device", "cpu"]
    together = ["--cluster", "ssh", *place, "--processes-per-job", "2"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "-m", "reid_train"]
    weights = []
    for root, start, more in [
        (trained.root, ["-m", "reid_train"], together),
        (tmp_path / "torchrun", launcher, []),
    ]:
        before = set(root.glob("artifacts/model/*"))
        words = [sys.executable, *start, "--workspace", str(root), "train", *training, *more]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
        done = subprocess.run(
            words, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        (made,) = [path for path in set(root.glob("artifacts/model/*/")) - before if path.is_dir()]
        weights.append((made.name, (made / "model.safetensors").read_bytes()))
    assert weights[0] == weights[1]
