"""What a part-informed run stood on is also that of its kept epoch and of a run that goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reid_train.figures.charts.curves import curves
from tests.cli.conftest import Console
from tests.cli.test_score import pictures

SETTINGS = (
    "input.size=[64,32]",
    "stages.identity-prompts.epochs=1",
    "stages.part-prompts.epochs=1",
    "stages.image.epochs=2",
    "stages.image.data.ids=2",
    "stages.image.data.images_per_id=2",
)
STAGES = ["identity-prompts", "part-prompts", "image"]


@pytest.mark.slow
def test_epochs_are_drawn_scored_and_reported_as_their_run(
    trained: Console,
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    drawn: list[dict[str, list[str]]] = []

    def drawing(logs: dict[str, list[dict[str, Any]]], **more: Any) -> Any:
        ended = {
            name: [entry["stage"] for entry in log if entry["event"] == "epoch"]
            for name, log in logs.items()
        }
        drawn.append(ended)
        return curves(logs, **more)

    monkeypatch.setattr("reid_train.figures.paper.training.curves", drawing)
    settings = [word for value in SETTINGS for word in ("--set", value)]
    words = ("train", "pi-vl-tiny", "--dataset", "folder")
    run = trained.json(*words, *settings, "--keep", "1", "--device", "cpu")["run"]
    kept, out = f"{run}@1", tmp_path / "f.svg"
    trained("figure", "curves", run, kept, "--out", out)
    # Two epochs of the last stage, of which the first was kept.
    assert drawn == [{run: [*STAGES, "image"], kept: STAGES}]
    assert "by schp-tiny" in trained.json("figure", "maps", kept, "--out", out)["caption"]
    assert "by schp-tiny" in trained.json("figure", "maps", run, "--out", out)["caption"]
    told = trained.json("figure", "parts", kept, "--out", out, "--device", "cpu")
    assert f"Mean silhouette of the parts: {kept} " in told["caption"]
    assert list(trained.json("report", kept)["parts"]["runs"]) == [kept]

    further = trained.json("train", "--continue", kept, "--epochs", "1", "--device", "cpu")["run"]
    page = Path(trained.json("report", further)["report"]).read_text(encoding="utf-8")
    words = f'--continue</span> <span class="word">{kept}<'
    assert words in page and "stages.image.epochs=1<" in page
    assert "input.size=" not in page  # as it was in the run
    (picture,) = pictures(people, 1)
    for name in (run, kept, further):
        found = trained.json("score", name, picture, "a person in a red coat")
        assert found["run"] == name and -1 <= found["similarity"] <= 1
