"""A fixed share of ``make chaos``; figures of all of it are in docs/reliability.md."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.chaos.children import Story, Strike
from tests.chaos.equality import compare
from tests.chaos.killed import faults
from tests.conftest import PROJECT

COMMANDS = ("prepare", "parse", "train", "embed")


@pytest.mark.slow
def test_a_share_of_the_chaos():
    """In a process of its own, which forks: it must have no other thread."""
    words = ["--kills", "8", "--signals", "2", "--crowds", "1", "--points", "1", "--workers", "1"]
    words += [
        "--processes",
        "1",
        "--beside",
        "1",
        "--json",
        *(w for name in COMMANDS for w in ("--command", name)),
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert ended.stdout, ended.stderr
    figures = json.loads(ended.stdout)
    assert figures["faults"] == [] and ended.returncode == 0
    assert figures["killed"]["strikes"] >= 8 and figures["killed"]["at work"] >= 4
    assert figures["limits that stopped it"] > 0


def test_the_comparison_sees_what_differs(tmp_path):
    for place, seconds in (("a", 1), ("b", 2)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "model.json").write_text(f'{{"seconds": {seconds}, "loss": 0.5}}')
        (tmp_path / place / "model.safetensors").write_text("weights")
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found.faults == [] and dict(found.alike) == {"model.json": 1}
    (tmp_path / "a" / "model.safetensors").write_text("other weights")
    (tmp_path / "a" / "model.json").write_text('{"seconds": 1, "loss": 0.6}')
    (tmp_path / "a" / ".state.pt.tmp-7").touch()
    assert compare(tmp_path / "a", tmp_path / "b").faults == [
        "a temporary file: .state.pt.tmp-7",
        "other bytes: model.json",
        "other bytes: model.safetensors",
    ]


def test_endings_are_judged():
    term = Strike(15)
    line = "Stopped. What is made is kept; the same command continues\n"
    assert faults(Story(code=143, stderr=line, struck=True), term) == []
    assert faults(Story(code=143, stderr=line + "more\n", struck=True), term) != []
    assert faults(Story(code=-15, struck=True), term) != []
    assert faults(Story(code=1, stderr="Traceback (most recent call last)"), None) != []
    assert faults(Story(left=[1]), None) == ["left a process: 1"]
