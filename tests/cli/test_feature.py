"""Which of a model's outputs is compared: ``--feature`` of eval, run and figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.artifacts.checked import read_json
from pipeline.artifacts.runs import list_runs
from pipeline.artifacts.store import Workspace
from pipeline.images.pixels import open_image, resize
from reid_train import load_model
from reid_train.evaluation.embeddings import load_features
from tests.cli.conftest import TRAIN, Console

RUN = ("run", "baseline-tiny", "--dataset", "folder", *TRAIN)


@pytest.fixture
def outputs(trained: Console, people: Path) -> dict[str, np.ndarray]:
    """The outputs of the model for the test images, in the order of its evaluation's keys."""
    model = load_model("baseline-tiny", workspace=trained.root)
    _, keys = load_features(Path(trained.json("eval")["folder"]))
    pixels = [resize(open_image(people / key), model.input_size, "bilinear") for key in keys]
    with torch.inference_mode():
        images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
        return {name: found.numpy() for name, found in model.features(images).items()}


def of_unit_length(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_an_output_by_its_name(trained: Console, outputs: dict[str, np.ndarray]):
    usual, one = trained.json("eval"), trained.json("eval", "--feature", "global")
    assert one["folder"] != usual["folder"]
    assert one["feature"] == "global" and "feature" not in usual
    features, _ = load_features(Path(one["folder"]))
    np.testing.assert_allclose(features, outputs["global"], atol=1e-5)
    # before the neck and after it: not the same features
    assert not np.allclose(features, outputs["embedding"], atol=1e-2)
    said = trained("eval", "--feature", "global").stdout
    assert "32x16, no flip, cosine distance of global; index" in said
    assert "cosine distance; index" in trained("eval").stdout
    # naming the usual one is no other evaluation
    assert trained.json("eval", "--feature", "embedding")["folder"] == usual["folder"]


def test_several_weigh_the_same(trained: Console, outputs: dict[str, np.ndarray]):
    both = trained.json("eval", "--feature", "global+embedding")
    features, _ = load_features(Path(both["folder"]))
    expected = [of_unit_length(outputs[name]) for name in ("global", "embedding")]
    np.testing.assert_allclose(features, np.concatenate(expected, axis=1), atol=1e-5)


def test_several_weigh_the_same_with_mirror_images(trained: Console, people: Path):
    both = trained.json(*RUN, "--set", "test.flip=true", "--feature", "global+embedding")
    (key,) = both["rows"][0]["evaluations"]
    features, keys = load_features(trained.root / "artifacts" / "evaluation" / key)
    plain, flipped = (run.name for run in list_runs(Workspace(trained.root)))
    model = load_model(flipped, workspace=trained.root)
    pixels = [resize(open_image(people / name), model.input_size, "bilinear") for name in keys]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        views = [model.features(view) for view in (images, images.flip(3))]
    expected = [
        of_unit_length((views[0][name] + views[1][name]).numpy())
        for name in ("global", "embedding")
    ]
    np.testing.assert_allclose(features, np.concatenate(expected, axis=1), atol=1e-5)
    # So is what was asked for by --flip, of a recipe without it.
    words = ("eval", plain, "--flip", "--feature", "global+embedding")
    features, _ = load_features(Path(trained.json(*words)["folder"]))
    np.testing.assert_allclose((features**2).sum(axis=1), 2, atol=1e-5)


def test_run_compares_the_same_output(trained: Console):
    (row,) = trained.json(*RUN, "--feature", "global")["rows"]
    alone = trained.json("eval", "--feature", "global")
    assert row["mAP"]["values"] == [alone["mAP"]]
    assert row["evaluations"] == [Path(alone["folder"]).name]
    assert "cosine distance of global" in row["protocol"]


def test_the_threshold_of_score_is_the_embeddings(trained: Console, people: Path):
    pictures = sorted((people / "images" / "gallery").iterdir())[:2]
    folders = [
        Path(trained.json("eval", "--feature", name)["folder"]) for name in ("embedding", "global")
    ]
    usual, newer = (read_json(folder / "threshold.json")["threshold"] for folder in folders)
    assert trained.json("score", "baseline-tiny", *pictures)["threshold"] == usual != newer


@pytest.mark.parametrize("feature", ["globe", "global+", "global+global", "levels"])
def test_another_name_is_one_line(trained: Console, feature: str):
    line = trained.mistake("eval", "--feature", feature)
    assert line == (
        f"Error: found --feature {feature}; expected one of embedding, global, or different ones "
        "joined by +; type --feature embedding"
    )


def test_another_name_is_told_before_anything_is_trained(trained: Console):
    words = (*RUN, "--set", "stages.0.epochs=2", "--feature", "globe")
    before = torch.get_rng_state()
    assert "found --feature globe" in trained.mistake(*words)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_varied_trunk_is_looked_at(trained: Console):
    # The first has no such output, the last has.
    varied = ("--vary", "model.trunk=tiny,clip-rn50", "--feature", "projected")
    varied += ("--set", "stages.0.losses.1.on=embedding")
    assert "found --feature projected; expected one of embedding, global" in trained.mistake(
        *RUN, *varied
    )


def test_a_figure_is_of_it_and_says_so(trained: Console, tmp_path: Path):
    words = ("figure", "cmc", "baseline-tiny", "--out", tmp_path / "cmc.svg")
    assert "cosine distance of global" in trained.json(*words, "--feature", "global")["caption"]
    assert "cosine distance," in trained.json(*words)["caption"]
    assert "found --feature globe; expected one of" in trained.mistake(*words, "--feature", "globe")


@pytest.mark.slow
def test_a_report_says_which(trained: Console):
    found = trained.json("eval", "--feature", "global", "--report")
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert "cosine distance of global, without flip" in page
    assert '>--feature</span> <span class="word">global<' in page  # in the command that repeats it
