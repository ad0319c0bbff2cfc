"""The learners on one small CLIP with a ViT, untrained, on generated people."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifacts.atomic import read_json
from reid_train.weights.captions import vocabulary
from reid_train.weights.pretraining import initial, save
from tests.cli.conftest import Console

RECIPES = ("zero-shot-tiny-vit", "coop-tiny-vit", "cocoop-tiny-vit", "maple-tiny")
SHORT = ("--set", "training.epochs=1", "--shots", "1", "--device", "cpu")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    words, path = vocabulary(), tmp_path / "tiny.safetensors"
    save(initial(0, len(words), "vit"), words, path)
    return path


@pytest.mark.parametrize("split", ["base-new", pytest.param("people", marks=pytest.mark.slow)])
def test_one_table_for_all_learners(console: Console, few_people: None, clip: Path, split: str):
    words = ("classify", *RECIPES, "--pretrained", clip, "--split", split, *SHORT)
    if split == "base-new":
        words = (*words, "--attribute", "upper_colour")
    rows = console.json(*words)["rows"]
    assert [row["recipe"] for row in rows] == [*RECIPES]
    assert [row["parameters"] for row in rows] == [0, 512, 2_696, 33_536]
    inputs = {
        read_json(file.parent / "model.json")["recipe"]["name"]: read_json(file)["inputs"]
        for file in console.root.glob("artifacts/learner/*/artifact.json")
    }
    assert {name for name, given in inputs.items() if "features" not in given} == {"maple-tiny"}
