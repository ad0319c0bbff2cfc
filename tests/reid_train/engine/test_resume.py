"""Resuming for real: the process is killed with SIGKILL at a random moment, several times."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time

import pytest
import torch

from tests.conftest import PROJECT


def start(folder, slow):
    command = [sys.executable, "-m", "tests.reid_train.toy", str(folder), "6", str(slow)]
    return subprocess.Popen(command, cwd=PROJECT)


def kill_during_training(folder, delay):
    """Start, wait until this process has saved something and then ``delay`` seconds, kill."""
    state = folder / "state.pt"
    before = state.stat().st_mtime_ns if state.exists() else 0
    process = start(folder, slow=0.02)
    while not state.exists() or state.stat().st_mtime_ns == before:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    assert process.wait() == -9


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_runs_end_with_the_weights_and_the_log_of_an_uninterrupted_one(tmp_path, seed):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(whole, slow=0).wait() == 0
    chance = random.Random(seed)
    for _ in range(3):
        kill_during_training(parts, chance.uniform(0.02, 0.3))
    assert start(parts, slow=0).wait() == 0
    a, b = (torch.load(f / "final.pt", weights_only=True) for f in (whole, parts))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    logs = []
    for folder in (whole, parts):
        found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for line in found:
            line.pop("seconds", None)
            line.pop("images_per_s", None)
        logs.append(found)
    assert logs[0] == logs[1]
