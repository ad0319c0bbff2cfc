"""Clusters for labels: DBSCAN on the sparse graph, and how clusters agree with identities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.cluster import DBSCAN

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation import jaccard_graph
from reid_train.hooks.cluster import agreement, dbscan


def graph_of(full):
    """What is below 1 of a full symmetric matrix, zeros of the diagonal stored."""
    rows, columns = np.nonzero(full < 1)
    return csr_matrix((full[rows, columns], (rows, columns)), shape=full.shape)


@pytest.mark.parametrize("eps", [0.4, 0.5, 0.6, 0.7])
def test_clusters_on_recorded_distances(golden, eps):
    """Clusters were recorded for two eps; for the others they follow from recorded distances."""
    z = golden("jaccard_n160.npz")
    expected = DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit_predict(z["jaccard_k30_6"])
    if eps in (0.5, 0.6):
        np.testing.assert_array_equal(expected, z[f"dbscan_labels_k30_6_eps{eps}"])
    found = dbscan(jaccard_graph(z["feat"], k1=30, k2=6), eps=eps)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(0, 10_000),
    st.sampled_from([0.1, 0.5, 0.99]),
    st.integers(1, 6),
)
def test_what_is_not_stored_is_at_distance_one(count, seed, eps, min_samples):
    """Sparse and full matrices give the same clusters, also when images have equal features."""
    rng = np.random.default_rng(seed)
    half = np.triu(rng.choice([0, 0.05, 0.3, 0.5, 0.9, 1], size=(count, count)), 1)
    full = (half + half.T).astype(np.float32)
    expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(full)
    found = dbscan(graph_of(full), eps=eps, min_samples=min_samples)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int64


def test_a_chain_two_blobs_and_a_stray_by_hand():
    full = np.ones((8, 8), np.float32)
    for a, b in [(0, 1), (1, 2), (2, 3), (5, 6)]:
        full[a, b] = full[b, a] = 0.2
    np.fill_diagonal(full, 0)
    # 3 images within 0.2 (itself too) make a core: 1 and 2 do, 5 and 6 have two only.
    found = dbscan(graph_of(full), eps=0.2, min_samples=3)
    assert found.tolist() == [0, 0, 0, 0, -1, -1, -1, -1]
    found = dbscan(graph_of(full), eps=0.2, min_samples=2)
    assert found.tolist() == [0, 0, 0, 0, -1, 1, 1, -1]


@pytest.mark.parametrize("eps", [0.0, 1.0, 1.5, -0.1])
def test_an_eps_that_would_reach_what_is_not_stored_is_refused(eps):
    with pytest.raises(ReidpipeError, match="eps"):
        dbscan(graph_of(np.zeros((3, 3), np.float32)), eps=eps)


def test_clusters_of_people_are_found():
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(12), 9)
    features = rng.normal(size=(12, 24))[ids] + 0.15 * rng.normal(size=(108, 24))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    figures = agreement(dbscan(jaccard_graph(features, k1=9, k2=3), eps=0.6), ids)
    assert figures == {"clusters": 12, "outliers": 0, "nmi": 1.0, "ari": 1.0}


def test_agreement_by_hand():
    labels, identities = np.array([0, 0, 1, 1, -1, -1]), np.array([5, 5, 5, 5, 7, 8])
    # One identity in two clusters: nothing is learnt from the clusters about identities.
    figures = agreement(labels, identities)
    assert figures == {"clusters": 2, "outliers": 2, "nmi": 0.0, "ari": 0.0}
    names = np.array([9, 9, 4, 4, 1, 1])
    assert agreement(labels, names) == {"clusters": 2, "outliers": 2, "nmi": 1.0, "ari": 1.0}
    # ARI: 1 pair together in both, as many as by chance (2 * 3 / 6 pairs): 0.
    assert agreement(np.array([0, 0, 1, 1]), np.array([1, 2, 2, 2]))["ari"] == pytest.approx(0)
    assert agreement(np.full(3, -1), names[:3]) == {
        "clusters": 0, "outliers": 3, "nmi": 0.0, "ari": 0.0,
    }  # fmt: skip
