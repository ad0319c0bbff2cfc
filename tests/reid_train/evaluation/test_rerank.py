"""k-reciprocal re-ranking and the Jaccard graph against recorded results and a dense reference."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation import Embeddings, evaluate_distances, jaccard_graph, rerank_distances


def sides(z):
    return (
        Embeddings(z["q_feat"], z["q_pids"], z["q_camids"]),
        Embeddings(z["g_feat"], z["g_pids"], z["g_camids"]),
    )


def test_recorded_results(golden):
    z = golden("rerank_q20_g80.npz")
    found = rerank_distances(*sides(z))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, z["torchreid_on_dist_k20_6_l0.3"], rtol=0, atol=6e-7)
    np.testing.assert_allclose(found, z["clipreid_k20_6_l0.3"], rtol=0, atol=5e-3)
    metrics = evaluate_distances(found, z["q_pids"], z["g_pids"], z["q_camids"], z["g_camids"])
    assert metrics.mAP == pytest.approx(z["torchreid_on_dist_mAP_k20_6_l0.3"], abs=1e-6)
    np.testing.assert_allclose(metrics.cmc, z["torchreid_on_dist_cmc_k20_6_l0.3"], atol=1e-6)


def test_recorded_clip_reid(golden):
    z = golden("clip_losses.npz")
    query, gallery = (
        Embeddings(z[f"eval_{s}f"], z[f"eval_{s}_pids"], z[f"eval_{s}_cams"]) for s in "qg"
    )
    for k1, k2 in ((20, 6), (50, 15)):
        found = rerank_distances(query, gallery, normalise=False, k1=k1, k2=k2)
        np.testing.assert_allclose(found, z[f"rerank_{k1}_{k2}_dist"], atol=5e-3)


def dense_rerank(features, queries, k1, k2, lam):
    """Algorithm of the paper on full matrices, written with sets."""
    squared = ((features[:, None].astype(np.float64) - features[None]) ** 2).sum(-1)
    original = squared / squared.max(axis=1, keepdims=True)
    order = np.argsort(squared, axis=1, kind="stable")
    half = int(np.around(k1 / 2))

    def reciprocal(i, k):
        return {int(j) for j in order[i, : k + 1] if i in order[j, : k + 1]}

    encoding = np.zeros_like(original)
    for i in range(len(features)):
        members = reciprocal(i, k1)
        grown = set(members)
        for j in members:
            other = reciprocal(j, half)
            if len(other & members) > 2 / 3 * len(other):
                grown |= other
        chosen = sorted(grown)
        weight = np.exp(-original[i, chosen])
        encoding[i, chosen] = weight / weight.sum()
    encoding = np.stack([encoding[order[i, :k2]].mean(0) for i in range(len(features))])
    shared = np.array([[np.minimum(a, b).sum() for b in encoding] for a in encoding[:queries]])
    jaccard = 1 - shared / (2 - shared)
    return ((1 - lam) * jaccard + lam * original[:queries])[:, queries:]


@pytest.mark.parametrize(
    ("k1", "k2", "lam"), [(20, 6, 0.3), (50, 15, 0.3), (25, 1, 0.3), (10, 3, 0), (7, 2, 1)]
)
def test_equals_the_paper_on_full_matrices(k1, k2, lam):
    rng = np.random.default_rng(k1)
    centres = rng.normal(size=(12, 16))
    features = (centres[rng.integers(0, 12, 110)] + rng.normal(size=(110, 16))).astype(np.float32)
    query, gallery = Embeddings(features[:25], np.zeros(25)), Embeddings(features[25:], np.ones(85))
    found = rerank_distances(query, gallery, normalise=False, k1=k1, k2=k2, lam=lam)
    np.testing.assert_allclose(found, dense_rerank(features, 25, k1, k2, lam), atol=2e-6)


def test_identical_images_are_no_special_case():
    same = Embeddings(np.ones((30, 4)), np.zeros(30))
    assert np.isfinite(rerank_distances(same, same)).all()


def test_recorded_jaccard_and_clusters(golden):
    from sklearn.cluster import DBSCAN

    z = golden("jaccard_n160.npz")
    graph = jaccard_graph(z["feat"])
    dense = np.ones((160, 160), np.float32)
    entries = graph.tocoo()
    dense[entries.row, entries.col] = entries.data
    np.testing.assert_allclose(dense, z["jaccard_k30_6"], rtol=0, atol=1e-6)
    assert graph.data.min() >= 0 and graph.data.max() < 1
    for eps in (0.5, 0.6):
        labels = DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit_predict(graph)
        np.testing.assert_array_equal(labels, z[f"dbscan_labels_k30_6_eps{eps}"])


def test_a_graph_within_a_radius_is_the_whole_one_without_the_rest():
    features = np.random.default_rng(0).normal(size=(60, 8))
    whole = jaccard_graph(features, k1=10, k2=3)
    near = jaccard_graph(features, k1=10, k2=3, within=0.6)
    assert 60 < near.nnz < whole.nnz
    whole.data[whole.data > 0.6] = 1  # farther pairs are not stored
    np.testing.assert_array_equal(
        np.where(near.toarray() == 0, 1, near.toarray())[~np.eye(60, dtype=bool)],
        np.where(whole.toarray() == 0, 1, whole.toarray())[~np.eye(60, dtype=bool)],
    )
    assert (near.diagonal() < 1e-6).all()


def test_user_mistakes():
    few = Embeddings(np.eye(5), np.arange(5))
    with pytest.raises(ReidpipeError, match="found 10 images for k1=20"):
        rerank_distances(few, few)
    with pytest.raises(ReidpipeError, match="lam=2"):
        rerank_distances(few, few, k1=3, k2=2, lam=2)
    with pytest.raises(ReidpipeError, match="at least 1"):
        rerank_distances(few, few, k1=0)
