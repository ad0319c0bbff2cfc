"""The terms of a dataset stand where a person reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets import roots
from pipeline.datasets.fetch import FetchError
from tests.cli.conftest import Console

TERMS = "Read the terms on the page of TU Graz first."


def test_whoever_may_fetch_reads_them_before(console: Console, monkeypatch: pytest.MonkeyPatch):
    def offline(*_: Any, **__: Any) -> list[Path]:
        raise FetchError("no network")

    monkeypatch.setattr(roots, "fetch_archives", offline)
    result = console("prepare", "prid2011", code=2)
    assert result.stderr.index(TERMS) < result.stderr.index("Error: no network")


def test_a_mistake_of_all_others_is_one_line(console: Console, tmp_path: Path):
    assert TERMS not in console.mistake("prepare", "prid2011", "--root", tmp_path / "gone")
