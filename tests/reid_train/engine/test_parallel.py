"""Two processes over Gloo give the losses and weights of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from pipeline.artifacts.steps import Job
from pipeline.images.work import pack
from pipeline.mannequins import DEFAULTS, checked, render
from tests.conftest import PROJECT


def run(what, folder, processes):
    command = [sys.executable, "-m", "tests.reid_train.parallel", what, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launcher = ["torch.distributed.run", f"--nproc_per_node={processes}"]
        launcher += ["--master_addr=127.0.0.1", f"--master_port={port}"]
        command = [command[0], "-m", *launcher, *command[1:]]
    subprocess.run(command, cwd=PROJECT, env=environment, check=True)
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in found if line["event"] in ("step", "epoch")]
    return losses, torch.load(folder / "final.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["toy", "recipe"])
def test_two_processes_train_like_one(tmp_path, what):
    alone, weights = run(what, tmp_path / "one", 1)
    together, shared = run(what, tmp_path / "two", 2)
    assert len(alone) >= 8
    assert together == pytest.approx(alone, abs=1e-4)
    for key in weights:
        torch.testing.assert_close(shared[key], weights[key], atol=1e-4, rtol=1e-3)
    for rank in (0, 1):  # a thread of Gloo that outlives the group can abort a process that ends
        assert "gloo" not in (tmp_path / "two" / f"threads-{rank}.txt").read_text()


@pytest.mark.slow
def test_two_processes_train_on_the_clusters_of_one(tmp_path):
    """Features by shares, DBSCAN in the first process, prototypes in both."""
    crowd = tmp_path / "people"
    crowd.mkdir()
    small = {"identities": {"train": 8, "test": 1}, "cameras": 2, "images": 4, "size": [128, 64]}
    render(Job(crowd, checked(DEFAULTS | small), {}, tmp_path))
    pack(Job(crowd, {"size": [128, 64], "filter": "bilinear"}, {"index": crowd}, tmp_path))
    alone, weights = run("clusters", tmp_path / "one", 1)
    together, shared = run("clusters", tmp_path / "two", 2)
    labels = [
        torch.load(tmp_path / name, weights_only=True)
        for name in ("one/labels-0.pt", "two/labels-0.pt", "two/labels-1.pt")
    ]
    assert labels[0].shape == (2, 8 * 2 * 4) and (labels[0].amax(1) >= 3).all()
    assert torch.equal(labels[1], labels[0]) and torch.equal(labels[2], labels[0])
    assert len(alone) == 2 * (4 + 1) and together == pytest.approx(alone, abs=1e-4)
    for key in weights:
        torch.testing.assert_close(shared[key], weights[key], atol=1e-4, rtol=1e-3)
