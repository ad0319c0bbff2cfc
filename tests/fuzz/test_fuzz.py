"""A tenth of ``make fuzz``, always the same inputs: none is a fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.fuzz.__main__ import INPUTS


@pytest.mark.slow
def test_no_input_is_a_fault(tmp_path: Path):
    """In a process of its own: it forks, and no thread of other tests may be there."""
    out = tmp_path / "verdicts.jsonl"
    finished = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--inputs", str(INPUTS // 10), "--out", str(out)],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=880,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-8000:]
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(verdicts) >= INPUTS // 10
    # Inputs that nobody refuses or nobody accepts would try nothing.
    for kind in {verdict["kind"] for verdict in verdicts}:
        assert any(v["refused"] for v in verdicts if v["kind"] == kind), kind
