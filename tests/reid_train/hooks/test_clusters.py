"""Clusters of features, and features less what their camera adds."""

from __future__ import annotations

import numpy as np
import pytest

from reid_train.evaluation import jaccard_graph
from reid_train.hooks.cluster import agreement, centred, dbscan


def test_centred_by_hand():
    features = np.array([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0], [0.6, -0.8]], np.float32)
    moved = centred(features, np.array([3, 3, 7, 3]))
    # The mean of camera 3 is (2.2 / 3, 0); camera 7 has one image.
    left = np.array([[0.6 - 2.2 / 3, 0.8], [1 - 2.2 / 3, 0.0], [0.6 - 2.2 / 3, -0.8]])
    expected = left / np.linalg.norm(left, axis=1, keepdims=True)
    np.testing.assert_allclose(moved[[0, 1, 3]], expected, atol=1e-6)
    assert moved[2].tolist() == [0, 0]


def test_centred_features_cluster_by_person_where_cameras_are_louder():
    rng = np.random.default_rng(0)
    people, cameras = np.repeat(np.arange(6), 12), np.tile(np.repeat(np.arange(3), 4), 6)
    features = rng.normal(size=(6, 32))[people] + 4 * rng.normal(size=(3, 32))[cameras]
    features += 0.1 * rng.normal(size=features.shape)
    unit = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)

    def ari(rows):
        graph = jaccard_graph(rows, k1=10, k2=3)
        return agreement(dbscan(graph, eps=0.6, min_samples=4), people)["ari"]

    assert ari(unit) < 0.5
    assert ari(centred(unit, cameras)) == pytest.approx(1.0)
