"""Whole commands on a GPU that is not there (``pretended.py``): no tensor lies on the wrong device,
and autocast, which casts otherwise on a GPU than on a CPU, leaves no two types that do not fit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT


@pytest.mark.slow
def test_commands_run_on_a_gpu_that_is_not_there(tmp_path: Path):
    # In a process of its own: torch knows of the device from then on.
    command = [sys.executable, "-m", "tests.reid_train.on_pretended", str(tmp_path)]
    process = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    told = json.loads(process.stdout.splitlines()[-1])
    assert {name: end["error"] for name, end in told.items() if end["error"]} == {}
    seen = told.pop("mistakes")["waits"]
    assert seen == dict.fromkeys(seen, 1) and len(seen) == 5
    # They computed there: the host has waited for the losses.
    assert all(sum(end["waits"].values()) for end in told.values())
