"""Exactly the best rows, whatever finds them: against a plain sort in float64."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.similarity import similarity
from reid_train.models import COSINE, DISTANCES, EUCLIDEAN
from reid_train.search import nearest
from reid_train.search.nearest import NormsOfRows, nearest_rows, way_to_search

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="faiss-cpu is not installed"
)
WAYS = ["numpy", pytest.param("faiss", marks=needs_faiss)]


def unsound(row: int) -> Exception:
    return AssertionError(f"row {row}")


def found(query, features, *, top, distance, through="numpy"):
    norms = NormsOfRows(features, unsound)
    return nearest_rows(query, features, norms, top=top, distance=distance, through=through)


def plain(query: np.ndarray, features: np.ndarray, distance: str) -> np.ndarray:
    return np.array([[similarity(q, g, distance) for g in features] for q in query])


@pytest.mark.parametrize("through", WAYS)
@pytest.mark.parametrize("distance", DISTANCES)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), block=st.sampled_from([3, 17, 200]))
def test_the_best_are_those_of_a_plain_sort(through: str, distance: str, seed: int, block: int):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(90, 6)).astype(np.float32) * rng.uniform(0.1, 9, (90, 1))
    features = features.astype(np.float32)[rng.integers(0, 60, 90)]  # with equal rows
    query = rng.normal(size=(3, 6)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "ROWS", block)
        near, rows = found(query, features, top=12, distance=distance, through=through)
    whole = found(query, features, top=12, distance=distance)
    # Neither blocks nor way change a bit.
    np.testing.assert_array_equal(near, whole[0])
    np.testing.assert_array_equal(rows, whole[1])
    expected = plain(query, features, distance)
    np.testing.assert_allclose(near, -np.sort(-expected, axis=1)[:, :12], atol=1e-5)
    np.testing.assert_allclose(near, np.take_along_axis(expected, rows, 1), atol=1e-5)
    ties = np.diff(near) == 0
    assert (np.diff(rows)[ties] > 0).all()


@pytest.mark.parametrize("through", WAYS)
def test_a_million_equal_rows_are_told_apart_by_their_place(through: str, monkeypatch):
    monkeypatch.setattr(nearest, "ROWS", 64)
    features = np.tile(np.array([3, 4], np.float32), (1000, 1))
    near, rows = found(
        np.array([[1, 1]], np.float32), features, top=5, distance=COSINE, through=through
    )
    assert rows.tolist() == [[0, 1, 2, 3, 4]] and len(set(near[0].tolist())) == 1


def test_lengths_that_float32_cannot_square():
    """Norms of 1e-30 to 1e30 have directions all the same, and no product overflows."""
    rows = np.array([[3, 4], [4, 3], [-3, 4], [0, 5]]) * [[1e30], [1e-11], [1], [3e37]]
    features = rows.astype(np.float32)
    near, order = found(np.array([[3e20, 4e20]], np.float32), features, top=4, distance=COSINE)
    assert order.tolist() == [[0, 1, 3, 2]]
    np.testing.assert_allclose(near, [[1, 0.96, 0.8, 0.28]], rtol=1e-6)


def test_the_euclidean_similarity_is_minus_the_distance():
    features = np.array([[0, 0], [3, 4], [6, 8]], np.float32)
    near, rows = found(np.array([[3, 4]], np.float32), features, top=3, distance=EUCLIDEAN)
    assert rows.tolist() == [[1, 0, 2]] and near.tolist() == [[0, -5, -5]]


def test_ways_are_checked(monkeypatch: pytest.MonkeyPatch):
    assert way_to_search(None) == "numpy"
    with pytest.raises(ReidpipeError, match="'scann'; expected one of numpy, faiss"):
        way_to_search("scann")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReidpipeError, match="type pip install faiss-cpu"):
        way_to_search("faiss")
