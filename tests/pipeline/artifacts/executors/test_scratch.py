"""The folder of local workers goes with its maker, or with the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.artifacts.executors.scratch import PREFIX, scratch
from tests.conftest import PROJECT

HOLDING = """
import time
from pipeline.artifacts.executors.scratch import scratch
with scratch() as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_command_left_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    words = [sys.executable, "-c", HOLDING]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        try:
            with scratch() as ours:
                assert ours.is_dir() and (ours.stat().st_mode & 0o777) == 0o700
                assert (theirs / "file").exists()
        finally:
            other.send_signal(signal.SIGKILL)
    assert theirs.exists()
    with scratch() as ours:
        assert [path for path in tmp_path.glob(f"{PREFIX}*/")] == [ours]
    assert not list(tmp_path.iterdir())
