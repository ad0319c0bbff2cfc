"""The tests that need a GPU, run as a developer does: ``python -m pytest -m gpu``."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu.given import Given, Skipped

PROJECT = Path(__file__).resolve().parents[2]
# Of pytest -v: "tests/test_gpu.py::test_name[fp32] PASSED [ 20%]"
LINE = re.compile(r"^(\S+::\S.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", re.MULTILINE)
REASON = re.compile(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - (.*))?$", re.MULTILINE)
# Seconds of the limit that are left to tell what came of it.
KEPT = 5.0
# Characters of failures that a line holds.
MOST_TOLD = 8000


def marked(folder: Path = PROJECT) -> list[str]:
    """Files with tests that need a GPU. Others are not even collected: what they import may be
    missing where there is a GPU and nothing else.
    """
    return [
        path.relative_to(folder).as_posix()
        for path in sorted((folder / "tests").rglob("test_*.py"))
        if "mark.gpu" in path.read_text(encoding="utf-8")
    ]


def of(given: Given) -> dict[str, Any]:
    """How many passed, failed, were skipped, the first line about each that failed, and the end of
    what pytest told of them. Tests that the limit cut short are not counted.
    """
    if importlib.util.find_spec("pytest") is None:
        raise Skipped("no pytest here: pip install -e '.[dev]'")
    files = list(given.sizes.tests) or marked()
    with tempfile.TemporaryFile("w+", dir=given.folder) as told:
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--tb=short", "-rfE"]
        process = subprocess.Popen(
            [*command, "-p", "no:cacheprovider", "-o", "addopts=--strict-markers", *files],
            cwd=PROJECT, stdout=told, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "NO_COLOR": "1"},
        )  # fmt: skip
        try:
            code = process.wait(max(1.0, given.limit - KEPT))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        told.seek(0)
        text = told.read()
    found = counted(text)
    if code not in (0, 1, 5, None):
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
        raise RuntimeError(f"pytest ended with {code}: {last[:300]}")
    return {**found, "cut": code is None}


def counted(text: str) -> dict[str, Any]:
    """What pytest -v told."""
    outcomes = dict(LINE.findall(text))
    reasons = {name: reason for name, reason in REASON.findall(text)}
    failed = [name for name, outcome in outcomes.items() if outcome in ("FAILED", "ERROR")]
    return {
        **({"told": text[-MOST_TOLD:]} if failed else {}),
        "passed": sum(outcome == "PASSED" for outcome in outcomes.values()),
        "skipped": sum(outcome == "SKIPPED" for outcome in outcomes.values()),
        "failed": {name: reasons.get(name, "")[:300] for name in failed},
    }
