"""Similarities by cosine and by Euclidean distance, and thresholds on them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.artifacts.atomic import read_json, write_json
from reid_train.evaluation import Embeddings, rerank_distances
from reid_train.evaluation import evaluate as score
from reid_train.evaluation.distances import Distances
from reid_train.evaluation.embeddings import load_features
from reid_train.evaluation.ranking import match_rule
from reid_train.evaluation.similarity import similarities, similarity
from reid_train.evaluation.stored_ranking import StoredRanking
from reid_train.evaluation.threshold import PairStatistics
from reid_train.evaluation.work import evaluate


def test_by_hand():
    a, b = np.array([3.0, 4.0]), np.array([6.0, 8.0])
    assert similarity(a, b, "cosine") == pytest.approx(1)
    assert similarity(a, b, "euclidean") == pytest.approx(-5)
    squared = np.array([0.0, -1e-7, 2.0], np.float32)
    np.testing.assert_allclose(similarities(squared, "cosine"), [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(similarities(squared, "euclidean"), [0, 0, -(2**0.5)], rtol=1e-6)


def test_a_threshold_on_distances_separates_what_it_says():
    rng = np.random.default_rng(3)
    pids = np.arange(40) % 8
    features = (rng.normal(size=(8, 5))[pids] * 6 + rng.normal(size=(40, 5)) * 2).astype(np.float32)
    query, gallery = Embeddings(features[:16], pids[:16]), Embeddings(features[16:], pids[16:])
    longest = float(np.linalg.norm(features, axis=1).max())
    pairs = PairStatistics(
        match_rule(query, gallery, "none"), distance="euclidean", farthest=2 * longest
    )
    distances = Distances(query.features, gallery.features, normalise=False, memory_mib=8)
    for _ in pairs.watch(distances.chunks()):
        pass
    found = pairs.summary()
    assert found["similarity"] == "minus the Euclidean distance"
    edges = found["histogram"]["edges"]
    assert edges[-1] == 0 and edges[0] == pytest.approx(-2 * longest, abs=1e-5)
    near = -np.linalg.norm(features[:16, None].astype(float) - features[None, 16:], axis=2)
    same = pids[:16, None] == pids[None, 16:]
    assert found["pairs"] == {"same": same.sum(), "different": (~same).sum()}
    for point in found["points"]:
        assert point["fpr"] <= point["wanted_fpr"]
        assert np.mean(near[~same] >= point["threshold"]) == pytest.approx(point["fpr"])
        assert np.mean(near[same] >= point["threshold"]) == pytest.approx(point["tpr"])


def test_an_evaluation_compares_as_the_model_says(make_prepared):
    usual = make_prepared()
    expected = {}
    for name, distance in (("usual", None), ("own", "euclidean"), ("asked", "euclidean")):
        meta = read_json(usual.model / "model.json")
        meta["model"] |= {"distance": "euclidean" if name == "own" else "cosine"}
        write_json(usual.model / "model.json", meta)
        asked = {"distance": distance} if name == "asked" else {}
        job = usual.job(name, rerank={"k1": 6, "k2": 3, "lam": 0.3}, **asked)
        expected[name] = evaluate(job)
        assert expected[name]["distance"] == (distance or "cosine")
        assert read_json(job.folder / "protocol.json")["distance"] == (distance or "cosine")
    assert expected["own"]["mAP"] == expected["asked"]["mAP"]
    features, keys = load_features(usual.root / "own")
    pids, camids = (
        np.array([int(key.split("_")[part].strip("c")) for key in keys]) for part in (0, 1)
    )
    ranking = StoredRanking.read(usual.root / "own" / "ranking.npz")
    rows = [
        [keys.index(key) for key in side] for side in (ranking.query_keys, ranking.gallery_keys)
    ]
    query, gallery = (Embeddings(features[r], pids[r], camids[r]) for r in rows)
    plain = score(query, gallery, normalise=False)
    assert expected["own"]["mAP"] == pytest.approx(float(plain.mAP), abs=1e-12)
    near = -np.linalg.norm(query.features[0] - gallery.features[ranking.indices[0]], axis=1)
    np.testing.assert_allclose(ranking.similarities[0], near, atol=1e-3)
    threshold = json.loads((usual.root / "own" / "threshold.json").read_text())
    assert threshold["similarity"] == "minus the Euclidean distance" and threshold["threshold"] <= 0
    again = rerank_distances(query, gallery, normalise=False, k1=6, k2=3, lam=0.3)
    assert again.shape == (5, 25) and expected["own"]["rerank"]["k1"] == 6
