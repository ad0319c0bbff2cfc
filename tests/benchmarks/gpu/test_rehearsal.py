"""The whole of ``python -m benchmarks.gpu`` on a CPU, tiny: every line of it is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.order import order
from reid_train.engine.units import has_units
from tests.conftest import PROJECT


def started(out: Path, *words: str) -> subprocess.Popen[str]:
    # Nothing is recorded there: the rehearsal makes its own recordings.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "REIDPIPE_SHARED": str(out.parent)}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--out", str(out), *words],
        cwd=PROJECT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_every_measurement_is_taken(tmp_path: Path):
    out = tmp_path / "lines.jsonl"
    process = started(out, "--seconds", "5000")
    told, errors = process.communicate(timeout=800)
    assert process.returncode == 0, errors
    lines = {line["measurement"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert list(lines) == [measurement.name for measurement in order([])]
    wrong = {name: line for name, line in lines.items() if line["outcome"] != "measured"}
    assert wrong == {}
    assert lines["machine"]["device"] == "cpu" and lines["machine"]["peak_from"].startswith("meas")
    assert lines["tests"]["failed"] == {} and lines["tests"]["skipped"] >= 7
    for name, line in lines.items():
        if name.startswith(("stage", "pi-vl", "maps")):
            assert line["images_per_s"] > 0 and line["share_of_peak"] > 0, name
    drift = lines["drift-clipreid_vit_stage2"]["drift"]
    # Halves are further from float64 than float32 is, and none is far; without units for them a
    # CPU computes in float32.
    for half in ("bf16", "fp16"):
        if has_units(half):
            assert drift["fp32"]["loss"][0] < drift[half]["loss"][0] < 0.05
        else:
            assert drift[half] == drift["fp32"]
    assert set(drift) == {"fp32", "tf32", "bf16", "fp16"}
    assert "stage2-vit-bf16: measured images_per_s" in told


@pytest.mark.slow
def test_a_run_that_is_cut_is_a_result(tmp_path: Path):
    out = tmp_path / "lines.jsonl"
    process = started(out, "--only", "evaluation", "reranking")
    assert process.stdout is not None
    while "evaluation" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    names = [json.loads(line)["measurement"] for line in out.read_text().splitlines()]
    assert names[:2] == ["machine", "evaluation"]
