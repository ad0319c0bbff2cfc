"""docs/examples/holdout.py: people of a prepared set held out, by hand and through ``prepare``."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.datasets.index import ImageRow
from tests.cli.conftest import Console, people  # noqa: F401
from tests.conftest import PROJECT
from tests.golden import module_at

SCRIPT = PROJECT / "docs" / "examples" / "holdout.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return module_at(SCRIPT)


ROWS = [
    ImageRow(f"{pid}-{camid}-{shot}", "", split, pid, camid, None, "", None, 64, 128, "")
    for split, pids in (("train", (3, 5, 8, 9)), ("gallery", (11, 12)))
    for pid in pids
    for camid in (0, 1)
    for shot in range(4)
]


def test_some_are_held_out_and_the_others_are_learnt_from(script: ModuleType):
    found = script.held_out(ROWS, 2, 7, 1, 3)
    by_split = {split: {row.pid for row, other in found if other == split} for _, split in found}
    assert by_split["query"] == by_split["gallery"] and len(by_split["query"]) == 2
    assert by_split["train"] | by_split["query"] == {3, 5, 8, 9}
    assert not by_split["train"] & by_split["query"]  # nobody of the test people is looked at
    assert Counter(split for _, split in found) == {"train": 16, "query": 4, "gallery": 12}
    whole = script.held_out(ROWS, 2, 7, None, None)
    assert Counter(split for _, split in whole) == {"train": 16, "query": 16, "gallery": 16}
    others = {row.pid for seed in range(20) for row, s in script.held_out(ROWS, 1, seed, 1, 1)
              if s == "query"}  # fmt: skip
    assert others == {3, 5, 8, 9}
    with pytest.raises(SystemExit, match="found 4 people to learn from; expected more than 4"):
        script.held_out(ROWS, 4, 0, None, None)


def test_the_table_is_prepared_as_any_other(people: Path, tmp_path: Path):  # noqa: F811
    console = Console(tmp_path / "workspace")
    console("prepare", "folder", "--root", people, "--size", "32x16")
    (index,) = (tmp_path / "workspace" / "artifacts").glob("index/*/index.csv")
    table = people / "held.csv"
    words = [sys.executable, str(SCRIPT), str(index.parent), str(table), "2", "13"]
    finished = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=PROJECT)
    assert finished.returncode == 0, finished.stderr
    try:
        rows = list(csv.DictReader(table.open(encoding="utf-8")))
        assert Counter(row["split"] for row in rows) == {"train": 12, "query": 12, "gallery": 12}
        console("prepare", "folder", "--root", table, "--size", "32x16")
    finally:
        table.unlink()
