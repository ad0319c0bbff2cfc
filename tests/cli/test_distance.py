"""The distance of a model, from the file it was imported from to eval, score, search and embed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_train import open_gallery
from reid_train.evaluation import Embeddings, evaluate
from reid_train.evaluation.embeddings import load_features
from reid_train.evaluation.stored_ranking import StoredRanking
from tests.cli.conftest import Console
from tests.reid_train.exchange.test_torchreid import published

IMPORT = ("--from", "torchreid", "--set", "input_size=[32,16]", "--name", "quarter")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "osnet_x0_25.pth.tar"
    content = {f"module.{key}": value for key, value in published("x0.25", classes=3).items()}
    torch.save({"state_dict": content, "rank1": np.float64(0.912)}, path)
    return path


def test_euclidean_from_import_to_search(
    trained: Console, checkpoint: Path, people: Path, tmp_path: Path
):
    text = trained("import", checkpoint, *IMPORT).stdout
    assert "osnet-x0.25" in text and "euclidean distance" in text
    metrics = trained.json("eval", "quarter", "--dataset", "folder")
    assert metrics["distance"] == "euclidean"
    assert "euclidean distance" in trained("eval", "quarter", "--dataset", "folder").stdout
    features, keys = load_features(Path(metrics["folder"]))
    ranking = StoredRanking.read(Path(metrics["folder"]) / "ranking.npz")
    rows = {key: row for row, key in enumerate(keys)}
    index = {line.split(",")[0]: line.split(",") for line in (people / "index.csv").open()}
    header = (people / "index.csv").open().readline().strip().split(",")

    def side(names: np.ndarray) -> Embeddings:
        found = [str(name) for name in names]
        columns = [[int(index[n][header.index(c)]) for n in found] for c in ("pid", "camid")]
        return Embeddings(features[[rows[name] for name in found]], *columns)

    query, gallery = side(ranking.query_keys), side(ranking.gallery_keys)
    for distance, folder in (("euclidean", metrics), ("cosine", None)):
        asked = () if folder else ("--distance", distance)
        found = trained.json("eval", "quarter", "--dataset", "folder", *asked)
        assert found["distance"] == distance
        expected = evaluate(query, gallery, normalise=distance == "cosine")
        assert found["mAP"] == pytest.approx(float(expected.mAP), abs=1e-9)
        # naming the model's own is no other evaluation
        same = trained.json("eval", "quarter", "--dataset", "folder", "--distance", distance)
        assert same["folder"] == found["folder"]

    # one threshold, that of the model's own distance
    threshold = json.loads((Path(metrics["folder"]) / "threshold.json").read_text())
    pictures = sorted((people / "images" / "gallery").iterdir())
    scored = trained.json("score", "quarter", pictures[0], pictures[1])
    assert scored["threshold"] == threshold["threshold"] and scored["similarity"] < 0
    said = trained("score", "quarter", pictures[0], pictures[0]).stdout
    assert said.startswith("similarity -0.000 (minus the Euclidean distance): same person")
    searched = trained.json("search", "quarter", pictures[0], pictures[0].parent, "--top", "24")
    match = next(row for row in searched["matches"] if row["image"] == str(pictures[1]))
    assert match["similarity"] == pytest.approx(scored["similarity"], abs=1e-4)
    trained("embed", "quarter", pictures[0].parent, "--out", tmp_path / "gallery")
    about = json.loads((tmp_path / "gallery" / "gallery.json").read_text())
    assert about["distance"] == "euclidean" and about["normalise"] is False
    stored = open_gallery(tmp_path / "gallery")
    similarity, places = stored.search(stored.features[:1], top=24)
    near = -np.linalg.norm(stored.features[places[0]] - stored.features[0], axis=1)
    # Of equal features the rounding of |q|^2 + |g|^2 - 2 q.g is left, and its root.
    np.testing.assert_allclose(similarity[0], near, atol=1e-3)
    again = trained.json("search", "quarter", pictures[0], tmp_path / "gallery", "--top", "24")
    assert [row["similarity"] for row in again["matches"]] == pytest.approx(
        [row["similarity"] for row in searched["matches"]], abs=1e-3
    )
    text = trained("search", "quarter", pictures[0], tmp_path / "gallery").stdout
    assert "similarity: minus the Euclidean distance" in text


def test_the_distance_can_be_given_and_is_another_model(trained: Console, checkpoint: Path):
    first = trained.json("import", checkpoint, *IMPORT)
    second = trained.json("import", checkpoint, *IMPORT, "--set", "distance=cosine")
    assert first["model"] != second["model"]
    about = [json.loads((Path(f["model"]) / "model.json").read_text()) for f in (first, second)]
    assert about[0]["model"]["distance"] == "euclidean" and "distance" not in about[1]["model"]
    line = trained.mistake("import", checkpoint, *IMPORT, "--set", "distance=l2", notes=1)
    assert "expected cosine or euclidean" in line
    assert "one of 'cosine', 'euclidean'" in trained.mistake("eval", "--distance", "l2")


def test_todays_models_are_compared_by_cosine(trained: Console):
    metrics = trained.json("eval")
    assert metrics["distance"] == "cosine"
    assert trained.json("eval", "--distance", "cosine")["folder"] == metrics["folder"]
    raw = trained.json("eval", "--distance", "euclidean")
    assert raw["folder"] != metrics["folder"] and raw["distance"] == "euclidean"


@pytest.mark.slow
def test_a_report_names_the_distance(trained: Console):
    raw = trained.json("eval", "--distance", "euclidean", "--report")
    page = Path(raw["report"]).read_text(encoding="utf-8")
    assert "euclidean distance" in page and "minus the Euclidean distance" in page
