"""Training as two processes, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, Console, as_two_processes

PARTS = [
    *("--pretrained", "none"),
    *(
        word
        for value in (
            "stages.identity-prompts.epochs=1",
            "stages.part-prompts.epochs=1",
            "stages.image.epochs=1",
            "stages.image.data.ids=2",
            "stages.image.data.images_per_id=2",
            "model.options={width: 8, heads: 4}",
            "model.text.options={layers: 1, width: 32, heads: 2}",
        )
        for word in ("--set", value)
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [("baseline-tiny", TRAIN), ("pi-vl-tiny", PARTS)],
    ids=["plain", "parts"],
)
def test_two_processes_train_one_model(
    people: Path, tmp_path: Path, recipe: str, settings: list[str]
) -> None:
    console = Console(tmp_path / "workspace")
    console("prepare", "folder", "--root", people, "--size", "32x16", "--filter", "bilinear")
    words = ["--workspace", str(console.root), "train", recipe, "--dataset", "folder", *settings]
    printed = as_two_processes("reid_train", *words, "--device", "cpu")
    # Label maps, features and texts are made by one process while the other waits.
    assert printed.count(f"run {recipe}-folder-s0") == 1
    metrics = console.json("eval")
    assert metrics["recipe"] == recipe and metrics["valid_queries"] == 12
