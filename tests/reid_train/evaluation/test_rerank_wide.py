"""k2 beyond the reciprocal neighbours: the mean is over the initial ranking, as in the paper."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation import Embeddings, evaluate, jaccard_graph, rerank_distances
from tests.reid_train.evaluation.test_rerank import dense_rerank


def people() -> np.ndarray:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(8, 6))
    return (centres[rng.integers(0, 8, 60)] + rng.normal(size=(60, 6))).astype(np.float32)


@pytest.mark.parametrize(("k1", "k2"), [(5, 10), (5, 6), (5, 7), (1, 3), (3, 60)])
def test_reranking_equals_the_paper(k1: int, k2: int):
    features = people()
    query, gallery = Embeddings(features[:15], np.zeros(15)), Embeddings(features[15:], np.ones(45))
    found = rerank_distances(query, gallery, normalise=False, k1=k1, k2=k2)
    np.testing.assert_allclose(found, dense_rerank(features, 15, k1, k2, 0.3), atol=2e-6)


def dense_jaccard(features: np.ndarray, k1: int, k2: int) -> np.ndarray:
    squared = ((features[:, None].astype(np.float64) - features[None]) ** 2).sum(-1)
    order = np.argsort(squared, axis=1, kind="stable")

    def reciprocal(i: int, entries: int) -> set[int]:
        return {int(j) for j in order[i, :entries] if i in order[j, :entries]}

    encoding = np.zeros_like(squared)
    for i in range(len(features)):
        members = reciprocal(i, k1)
        grown = set(members)
        for j in members:
            other = reciprocal(j, int(np.around(k1 / 2)) + 1)
            if 3 * len(other & members) > 2 * len(other):
                grown |= other
        chosen = sorted(grown)
        weight = np.exp(-squared[i, chosen])
        encoding[i, chosen] = weight / weight.sum()
    encoding = np.stack([encoding[order[i, :k2]].mean(0) for i in range(len(features))])
    shared = np.array([[np.minimum(a, b).sum() for b in encoding] for a in encoding])
    return 1 - shared / (2 - shared)


@pytest.mark.parametrize(("k1", "k2"), [(5, 10), (5, 6), (10, 3), (2, 4)])
def test_the_jaccard_graph_equals_full_matrices(k1: int, k2: int):
    features = people()
    graph = jaccard_graph(features, k1=k1, k2=k2).tocoo()
    dense = np.ones((60, 60))
    dense[graph.row, graph.col] = graph.data
    np.testing.assert_allclose(dense, dense_jaccard(features, k1, k2), atol=2e-6)


def test_too_few_images_say_how_many_are_needed():
    few = Embeddings(np.eye(5), np.arange(5))
    with pytest.raises(ReidpipeError, match="expected at least 21 images; leave out --rerank"):
        rerank_distances(few, few)
    with pytest.raises(ReidpipeError, match="found 5 images for k1=4, k2=9; expected at least 9"):
        jaccard_graph(np.eye(5), k1=4, k2=9)
    with pytest.raises(ReidpipeError, match="found k1=1, k2=1; expected k1 at least 2"):
        jaccard_graph(np.eye(5), k1=1, k2=1)


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e39, 1e20])
def test_features_whose_distances_are_no_numbers_are_refused(odd: float):
    features = people().astype(np.float64)
    features[7, 3] = odd
    with pytest.raises(ReidpipeError, match="in row 7; expected finite numbers, and norms up to"):
        jaccard_graph(features, k1=5, k2=2)
    if not np.isfinite(odd):
        return
    query, gallery = (
        Embeddings(features[:15], np.zeros(15)),
        Embeddings(features[15:], np.zeros(45)),
    )
    with pytest.raises(ReidpipeError, match="in row 7; expected"):
        rerank_distances(query, gallery, normalise=False, k1=5, k2=2)
    with pytest.raises(ReidpipeError, match="in row 7; expected"):
        evaluate(query, gallery, normalise=False, exclude="none")
    if odd < 1e38:
        assert np.isfinite(rerank_distances(query, gallery, k1=5, k2=2)).all()
        assert np.isfinite(evaluate(query, gallery, exclude="none").mAP)


def test_an_empty_gallery_has_no_distances():
    none = Embeddings(np.empty((0, 6)), np.empty(0))
    assert rerank_distances(Embeddings(people(), np.zeros(60)), none, k1=5, k2=2).shape == (60, 0)
