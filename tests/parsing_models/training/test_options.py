"""A folder holds the training of one set of options, which no other is taken for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from parsing_models.training import published, small
from pipeline.artifacts.steps import Step
from pipeline.datasets.index import ImageRow, Index


class _Trained(Exception):
    """Training began."""


def begun(*_: Any, folder: Path, **__: Any) -> None:
    """In place of the loop: leave a state, as a run that is killed does."""
    (folder / "state.pt").write_bytes(b"")
    raise _Trained


def told(command: click.Command, *words: object) -> str:
    """The line of a mistake; none where training begins."""
    result = CliRunner().invoke(command, [str(word) for word in words])
    if isinstance(result.exception, _Trained):
        return ""
    assert result.exit_code == 2, result.output
    return result.output


def row(name: str, split: str) -> ImageRow:
    labelled = {"label_path": f"{name}-label.png"}
    return ImageRow(name, name, split, 0, 0, None, "", None, 20, 40, "", labelled)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[ImageRow]:
    """Of the dataset that ``published`` finds prepared."""
    rows = [row("a.png", "train"), row("b.png", "train"), row("c.png", "val")]
    index = Index("mannequins", Path(), rows)
    monkeypatch.setattr(published, "index_step", lambda *_: Step("index", {"dataset": "m"}))
    monkeypatch.setattr(published, "graph", SimpleNamespace(run=lambda *_: None))
    monkeypatch.setattr(published, "read_index", lambda _: index)
    monkeypatch.setattr(published, "train", begun)
    return rows


SMALL = ("--images", 16, "--batch", 16, "--precision", "fp32")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (("--lr", 0.02), "lr 0.01, not 0.02"),
        (("--manner", "published"), "manner ours, not published"),
        (("--strength", 0.1), "strength 0.4, not 0.1"),
        (("--precision", "bf16"), "precision fp32, not bf16"),
        (("--kind", "segformer-tiny"), "kind schp-tiny, not segformer-tiny"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_small_goes_on_with_its_own_options_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: tuple[object, ...], named: str
):
    monkeypatch.setattr(small, "train", begun)
    drawn = SimpleNamespace(first=lambda _: None)
    monkeypatch.setattr(small.MannequinBatches, "render", lambda *_, **__: drawn)
    monkeypatch.setattr(small, "stages", lambda *_: [])
    words = ("--out", tmp_path / "run", *SMALL)
    assert told(small.main, *words) == "" == told(small.main, *words, "--scored", 3)
    line = told(small.main, *words, *changed)
    assert f"found the training of other options in {tmp_path / 'run'} ({named}" in line
    assert line.strip().endswith("type another --out") and line.count("\n") == 1
    assert told(small.main, *words, *changed, "--out", tmp_path / "other") == ""


def test_published_wants_images_to_score_on(tmp_path: Path, rows: list[ImageRow]):
    rows[2] = replace(rows[2], extra={})
    line = told(published.main, "--dataset", "mannequins", "--out", tmp_path, "--batch", 2)
    assert "found label maps of 'mannequins' in the train split alone" in line
    assert line.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_published_goes_on_with_its_own_options_alone(tmp_path: Path, rows: list[ImageRow]):
    out = tmp_path / "run"
    words = ("--dataset", "mannequins", "--out", out, "--network", "schp-tiny", "--batch", 2)
    assert told(published.main, *words) == "" == told(published.main, *words)
    for option, value in (("--lr", 0.02), ("--manner", "ours"), ("--precision", "fp32")):
        assert f"({option[2:]} " in told(published.main, *words, option, value)
    assert "(input_size " in told(published.main, *words, "--input-size", 64, 32)
    options = json.loads((out / "options.json").read_text())
    assert options["index"] == Step("index", {"dataset": "m"}).key and options["imagenet"] is None
    # What was begun and left nothing may begin anew.
    (out / "state.pt").unlink()
    assert told(published.main, *words, "--lr", 0.02) == ""
    assert "(lr 0.02, not 0.007)" in told(published.main, *words)
    # Of an older version nobody knows.
    (out / "options.json").unlink()
    assert told(published.main, *words) == ""
    assert not (out / "options.json").exists()
