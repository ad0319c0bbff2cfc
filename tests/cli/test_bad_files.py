"""Files that ended in a traceback, a hang or a crash: each is one line now. Found by tests.fuzz."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Console

DEEP = "[" * 100_000


@pytest.mark.parametrize("content", ['{"variants": {"own": true}}', '{"root": 5}', DEEP, '["x"]'])
def test_a_registration_of_another_shape_is_none(trained: Console, content: str):
    (trained.root / "datasets" / "folder.json").write_text(content)
    line = trained.mistake("prepare", "folder", "--size", "32x16")
    assert "found no images of yours" in line


@pytest.mark.parametrize("change", [{"keyed": [1]}, {"weights": 7}, {"inputs": "x"}])
def test_a_run_whose_step_is_none_is_left_out(trained: Console, change: dict):
    (path,) = (trained.root / "runs").glob("*/run.json")
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"model": value["model"] | change}))
    assert trained.json("status")["runs"] == []


def test_curves_are_drawn_of_a_training_that_has_to_be_made_again(trained: Console, tmp_path: Path):
    (log,) = trained.root.glob("artifacts/model/*/log.jsonl")
    (log.parent / "artifact.json").unlink()
    trained("figure", "curves", "baseline-tiny", "--out", tmp_path / "a.svg", "--device", "cpu")
    assert (tmp_path / "a.svg").is_file()


@pytest.mark.parametrize("text", ["set: [1]", "set: x"])
def test_changes_that_are_no_mapping(console: Console, tmp_path: Path, text: str):
    (tmp_path / "mine.yaml").write_text(f"base: baseline-tiny\n{text}\n")
    assert "found set" in console.mistake("recipes", tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    "word", ["precision.x=\udcff", f"stages.{'9' * 5000}.lr=1", "citation.0.a=1"]
)
def test_words_that_no_recipe_has(console: Console, word: str):
    console.mistake("train", "baseline-tiny", "--dataset", "none.yaml", "--set", word)


@pytest.mark.parametrize("field", ["id: {}", "variants: [own]", "default_variant: 5"])
def test_a_manifest_whose_names_are_none(console: Console, tmp_path: Path, field: str):
    (tmp_path / "mine.yaml").write_text(f"{field}\n")
    assert "manifest: found" in console.mistake("datasets", tmp_path / "mine.yaml")


@pytest.mark.parametrize("text", ["x = " + "-" * 5000 + "1", "(" * 500 + ")" * 500])
def test_a_plugin_that_is_nested_too_deep(console: Console, tmp_path: Path, text: str):
    (tmp_path / "mine.py").write_text(text)
    line = console.mistake("--plugin", tmp_path / "mine.py", "status")
    assert "found plugin" in line
