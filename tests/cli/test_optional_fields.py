"""Fields that files of an artifact may lack: what reads them does without."""

from __future__ import annotations

import json

import pytest

from pipeline.artifacts.mark import MARK, described
from pipeline.artifacts.store import Workspace
from tests.cli.conftest import Console

LACKING = {
    "metrics.json": (
        "rerank",
        "intervals",
        "unit",
        "chance",
        "seed",
        "recipe",
        "distance",
        "feature",
    ),
    "protocol.json": ("exclude", "trials", "rerank", "distance", "definition", "feature"),
    "threshold.json": ("pairs", "people", "points", "calibration", "threshold", "similarity"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LACKING)
def test_an_evaluation_may_lack_what_its_shape_says(trained: Console, name: str):
    (evaluation,) = Workspace(trained.root).find("evaluation")
    path, mark = evaluation.folder / name, evaluation.folder / MARK
    whole, told = json.loads(path.read_text()), json.loads(mark.read_text())
    for field in LACKING[name]:
        for value in ({}, {field: None}):
            content = {key: kept for key, kept in whole.items() if key != field} | value
            path.write_text(json.dumps(content))
            told["files"][name] = described(path)
            mark.write_text(json.dumps(told))
            for kind in ("cmc", "det", "histogram"):
                trained("figure", kind, "baseline-tiny", "--out", trained.root / "x.svg")
            trained("eval", "baseline-tiny", "--dataset", "folder")
            trained("report", "baseline-tiny")
            trained("cache", "rm", "report")


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        *(
            f"{field}{value}"
            for field in ("seed", "recipe", "dataset", "training", "runtime", "metrics")
            for value in ("", "=null")
        ),
        "recipe={}", "recipe.name=null", "recipe.stages=null", "recipe.stages=[{}]",
        "model_key=null", "epoch=3",
    ],
)  # fmt: skip
def test_a_model_may_lack_what_its_shape_says(trained: Console, change: str):
    """``model.json`` with a field away, or with another value."""
    (model,) = Workspace(trained.root).find("model")
    path, mark = model.folder / "model.json", model.folder / MARK
    content, told = json.loads(path.read_text()), json.loads(mark.read_text())
    at, _, value = change.partition("=")
    *above, last = at.split(".")
    held = content[above[0]] if above else content
    held.pop(last, None)
    if value:
        held[last] = json.loads(value)
    path.write_text(json.dumps(content))
    told["files"]["model.json"] = described(path)
    mark.write_text(json.dumps(told))
    trained("cache", "rm", "evaluation")
    for words in (
        ("eval", "baseline-tiny"),
        ("report", "baseline-tiny"),
        (
            "export",
            "baseline-tiny",
            "--format",
            "safetensors",
            "--out",
            trained.root / "x.safetensors",
        ),
    ):
        trained(*words)


@pytest.mark.parametrize("gone", ["model", "recipe"])
def test_an_evaluation_whose_mark_tells_of_no_model_is_one_line(trained: Console, gone: str):
    (evaluation,) = Workspace(trained.root).find("evaluation")
    mark = evaluation.folder / MARK
    told = json.loads(mark.read_text())
    if gone == "model":
        del told["inputs"]["model"]
    else:
        del told["inputs"]["model"]["params"]["recipe"]
    mark.write_text(json.dumps(told))
    line = trained("export", "baseline-tiny", "--format", "safetensors", code=2).stderr
    assert f"no model{'.params.recipe' if gone == 'recipe' else ''} in its inputs" in line
    assert str(mark) in line
