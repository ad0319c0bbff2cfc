"""A command whose artifacts exist: a real process that does nothing, quickly, and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, Console

HEAVY = (
    "torch",
    "timm",
    "open_clip",
    "transformers",
    "dask",
    "distributed",
    "matplotlib",
    "sklearn",
)
WATCHED = (
    "import json, sys, cli\n"
    "try:\n    cli.main(json.loads(sys.argv[1]))\n"
    f"finally:\n    print('LOADED', [n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr)\n"
)
SECONDS = 3.0


def repeated(console: Console, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own; stderr ends with the heavy modules it loaded."""
    line = json.dumps(["--workspace", str(console.root), *map(str, words)])
    return subprocess.run(
        [sys.executable, "-c", WATCHED, line], capture_output=True, text=True, check=True
    )


def assert_idle(console: Console, words: Sequence[str | Path]) -> None:
    """The repeated command says that there is nothing to do, loads nothing, changes nothing."""

    def files() -> dict[Path, int]:
        artifacts = (console.root / "artifacts").rglob("*")
        return {p: p.stat().st_mtime_ns for p in artifacts if p.suffix != ".lock" and p.is_file()}

    before = files()
    # Of the processor, not of the clock: other work on the machine slows the latter.
    started = os.times()
    process = repeated(console, *words)
    ended = os.times()
    taken = ended.children_user + ended.children_system
    taken -= started.children_user + started.children_system
    assert "nothing to do: all " in process.stdout
    assert process.stderr.splitlines()[-1] == "LOADED []"
    assert "making" not in process.stderr
    assert taken < SECONDS, taken
    assert files() == before


@pytest.mark.parametrize(
    "words",
    [
        ("prepare", "folder", "--size", "32x16", "--filter", "bilinear"),
        ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu"),
        ("eval",),
        ("run", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu"),
    ],
    ids=lambda words: words[0],
)
def test_second_command_does_nothing(trained: Console, words: tuple[str, ...]):
    assert_idle(trained, words)


def test_second_report_does_nothing(trained: Console):
    trained("eval", "--report")
    assert_idle(trained, ("eval", "--report"))
    assert_idle(trained, ("report", "baseline-tiny"))  # the same page


@pytest.mark.slow
def test_second_parse_does_nothing(trained: Console):
    words = ("parse", "folder", "--device", "cpu")
    compared = ("--compare", "schp-tiny", "segformer-tiny")
    for more in ((), ("--score",), ("--preview",), compared):
        trained(*words, *more)
        assert_idle(trained, (*words, *more))


@pytest.mark.parametrize(
    "words",
    [("status",), ("cache", "ls"), ("cache", "verify"), ("datasets",), ("recipes",)],
    ids=" ".join,
)
def test_looking_loads_no_network(trained: Console, words: tuple[str, ...]):
    assert repeated(trained, *words).stderr.splitlines()[-1] == "LOADED []"


def test_failed_process_ends_with_code_2(console: Console):
    process = subprocess.run(
        [sys.executable, "-m", "cli", "--workspace", console.root, "eval", "--json"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.startswith("Error: found no run in ") and process.stderr.count("\n") == 1
