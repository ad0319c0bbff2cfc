"""The nearest of all images among themselves, and what their features share, by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from reid_train.evaluation import jaccard_graph, neighbours, overlap
from reid_train.evaluation.distances import Distances
from reid_train.evaluation.neighbours import Neighbours
from reid_train.evaluation.overlap import pairs_sharing
from reid_train.evaluation.rerank import _pair_distances


def blocks(full: np.ndarray, height: int):
    """What ``Distances.upper`` yields of a symmetric matrix (N, N)."""
    for first in range(0, len(full), height):
        yield first, np.ascontiguousarray(full[first : first + height, first:])


@pytest.mark.parametrize("order", ["shuffled", "approaching"])
@given(
    count=st.sampled_from([1, 2, 9, 40, 130, 400]),
    k=st.sampled_from([1, 3, 30]),
    height=st.sampled_from([1, 7, 64, 300]),
    levels=st.sampled_from([2, 20, 10**6]),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=12)
def test_the_nearest_with_ties_by_index(order, count, k, height, levels, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, count)
    if order == "approaching":  # later images are nearer than all before
        values = np.cumsum(1 + values)[::-1]
    full = np.abs(values[:, None] - values).astype(np.float32) / levels - np.float32(1e-3)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in {"PIECE": 2**9, "WAITING": 2**8, "TABLE": 2**9}.items():
            patch.setattr(neighbours, name, size)
        found = Neighbours(count, min(k, count))
        for first, block in blocks(full, height):
            found.add(first, block)
        indices = found.indices()
    np.testing.assert_array_equal(indices, np.argsort(full, axis=1, kind="stable")[:, :k])


@pytest.mark.parametrize(("dims", "memory"), [(3, 0.5), (72, 4), (500, 64)])
def test_each_pair_once_has_the_bits_of_the_whole_matrix(dims, memory):
    rows = np.random.default_rng(dims).standard_normal((700, dims), np.float32)
    search = Distances(rows, rows, normalise=False, memory_mib=memory)
    whole = np.concatenate([chunk.copy() for _, chunk in search.chunks()])
    done = 0
    for first, block in search.upper():
        assert first == done
        np.testing.assert_array_equal(block, whole[first : first + len(block), first:])
        done += len(block)
    assert done == 700


@pytest.mark.parametrize("least", [0, 0.05, 0.3, 0.6, 0.9])
@given(seed=st.integers(0, 10**6), density=st.sampled_from([0.05, 0.4, 1.0]))
@settings(deadline=None, max_examples=8)
def test_pairs_that_share_enough_are_all_found(least, seed, density):
    rng = np.random.default_rng(seed)
    people = rng.random((6, 60)) ** 3 * (rng.random((6, 60)) < density)
    full = people[rng.integers(0, 6, 60)] + 0.1 * (rng.random((60, 60)) < density / 4)
    full += 1e-3 * np.eye(60)
    full = (full / full.sum(axis=1, keepdims=True)).astype(np.float32)
    expected = np.minimum(full[:, None], full[None]).sum(axis=2, dtype=np.float64)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in {"ROWS": 17, "BATCH": 400, "DENSE": 300}.items():
            patch.setattr(overlap, name, size)
        parts = list(pairs_sharing(csr_matrix(full), least))
    images, others, shared = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert (images <= others).all() and (np.diff(images * 60 + others) > 0).all()
    np.testing.assert_allclose(shared, expected[images, others], atol=1e-7)
    found = np.zeros((60, 60), bool)
    found[images, others] = True
    assert found[np.triu(expected >= max(least, 1e-9))].all() or least == 0
    assert (np.triu(expected > max(least, 0)) <= found).all()


def test_images_at_distance_zero_are_stored():
    same = np.repeat(np.eye(4, 8, dtype=np.float32), 10, axis=0)
    graph = jaccard_graph(same, k1=10, k2=3, within=0.5)
    assert graph.nnz == 4 * 100 and not graph.data.any()
    assert graph.has_sorted_indices


def test_a_pair_and_its_mirror_are_computed_once():
    rows = np.random.default_rng(0).standard_normal((30, 40), np.float32)
    pairs = np.array([(0, 3), (0, 29), (3, 0), (3, 3), (7, 2), (29, 0), (29, 3)])
    found = _pair_distances(rows, *pairs.T)
    expected = ((rows[pairs[:, 0]] - rows[pairs[:, 1]]) ** 2).sum(axis=1)
    np.testing.assert_array_equal(found, expected)
