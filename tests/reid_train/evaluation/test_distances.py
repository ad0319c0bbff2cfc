"""The bits of a distance depend on its two rows alone, on every processor's kernels."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import ThreadpoolController, threadpool_limits

from reid_train.evaluation import Embeddings, jaccard_graph, rerank_distances
from reid_train.evaluation import distances as module
from reid_train.evaluation import rerank as rerank_module
from reid_train.evaluation.distances import Distances
from tests.conftest import PROJECT

# Below and above the least width, at and beyond the blocks of columns that BLAS packs at once.
DIMS = (3, 71, 72, 128, 333, 500, 641)
BUDGETS = (1e-4, 0.5, 4, 64)
LAYOUTS = ("float32", "float64", "columns", "strided", "shifted")


def arranged(rows: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers in memory another way."""
    if layout == "float64":
        return rows.astype(np.float64)
    if layout == "columns":
        return np.asfortranarray(rows)
    if layout == "strided":
        return np.repeat(rows, 2, axis=1)[:, ::2]
    if layout == "shifted":
        place = np.empty(rows.size + 1, np.float32)[1:].reshape(rows.shape)
        place[:] = rows
        return place
    return rows


def matrix(query: np.ndarray, gallery: np.ndarray, **options) -> np.ndarray:
    """All distances (Q, G)."""
    return np.concatenate(
        [chunk.copy() for _, chunk in Distances(query, gallery, **options).chunks()]
    )


def images(seed: int, count: int, dims: int) -> np.ndarray:
    """Features of a few people, (count, dims) float32."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, dims))
    noise = rng.standard_normal((count, dims))
    return (centres[rng.integers(0, 12, count)] + noise).astype(np.float32)


@st.composite
def parts(draw):
    """A choice of 90 queries and 1500 gallery rows, in any order, queries any number of times."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    asked = rng.integers(0, 90, draw(st.sampled_from([1, 2, 7, 8, 49, 130])))
    kept = rng.permutation(1500)[: draw(st.sampled_from([1, 15, 63, 64, 321, 700, 1300, 1500]))]
    return asked, kept


@given(
    part=parts(),
    dims=st.sampled_from(DIMS),
    normalise=st.booleans(),
    memory_mib=st.sampled_from(BUDGETS),
    layouts=st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
    threads=st.sampled_from([1, 2]),
)
@settings(deadline=None, max_examples=60)
def test_a_pair_keeps_its_bits(part, dims, normalise, memory_mib, layouts, threads):
    asked, kept = part
    rows = images(dims, 1590, dims)
    query, gallery = rows[:90], rows[90:]
    whole = matrix(query, gallery, normalise=normalise, memory_mib=64)
    some = arranged(query[asked], layouts[0]), arranged(gallery[kept], layouts[1])
    with threadpool_limits(threads):
        found = matrix(*some, normalise=normalise, memory_mib=memory_mib)
    np.testing.assert_array_equal(found, whole[np.ix_(asked, kept)])


@given(seed=st.integers(0, 10**6), chunk=st.integers(1, 60), block=st.integers(64, 2000))
@settings(deadline=None, max_examples=20)
def test_neither_chunks_nor_blocks_change_a_bit(seed, chunk, block):
    rows = images(seed, 1700, 300)
    whole = matrix(rows[:60], rows, normalise=False, memory_mib=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        patch.setattr(module, "BLOCK", block)
        found = matrix(rows[:60], rows, normalise=False, memory_mib=64)
    np.testing.assert_array_equal(found, whole)


def test_equal_rows_have_equal_distances_everywhere_in_the_gallery():
    # One pair of rows at all places, those of the ends of the gallery and of each block included.
    rows = images(1, 2, 500)
    found = matrix(rows[:1].repeat(100, 0), rows[1:].repeat(9000, 0), normalise=True, memory_mib=64)
    assert (found == found[0, 0]).all()


@pytest.mark.parametrize("count", (*range(1, 27), 47, 49))
def test_a_query_has_its_bits_at_all_places_among_the_others(count):
    # Blocks of 12 or 48 queries, in halves: of one query at all places, each number of them.
    rows = images(3, 1700, 500)
    alone = matrix(rows[:1], rows[1:], normalise=True, memory_mib=64)
    for memory_mib in (1e-4, 64):
        found = matrix(rows[:1].repeat(count, 0), rows[1:], normalise=True, memory_mib=memory_mib)
        np.testing.assert_array_equal(found, alone.repeat(count, 0))


def test_distances_of_features_as_they_are_are_symmetric():
    rows = images(2, 1000, 333)
    found = matrix(rows, rows, normalise=False, memory_mib=64)
    np.testing.assert_array_equal(found, found.T)


def rerank(rows: np.ndarray, queries: int) -> np.ndarray:
    sides = rows[:queries], rows[queries:]
    return rerank_distances(*(Embeddings(side, np.zeros(len(side))) for side in sides))


@given(seed=st.integers(0, 10**6), asked=st.integers(1, 90), budget=st.sampled_from(BUDGETS))
@settings(deadline=None, max_examples=10)
def test_reranking_does_not_depend_on_who_of_the_images_is_asked(seed, asked, budget):
    rows = images(seed, 400, 128)
    some, all_of_them = rerank(rows, asked), rerank(rows, 90)
    np.testing.assert_array_equal(some[:, 90 - asked :], all_of_them[:asked])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rerank_module, "MEMORY_MIB", budget)
        np.testing.assert_array_equal(rerank(rows, asked), some)
        graph = jaccard_graph(rows)
    np.testing.assert_array_equal(graph.toarray(), jaccard_graph(rows).toarray())


@given(seed=st.integers(0, 10**6), dims=st.sampled_from(DIMS))
@settings(deadline=None, max_examples=20)
def test_a_pair_of_the_encoding_keeps_its_bits_whoever_shares_its_row(seed, dims):
    rng = np.random.default_rng(seed)
    rows = images(seed, 60, dims)
    left, right = (places.ravel() for places in np.indices((60, 60)))
    whole = rerank_module._pair_distances(rows, left, right)
    kept = np.flatnonzero(rng.random(3600) < rng.random())
    found = rerank_module._pair_distances(rows, left[kept], right[kept])
    np.testing.assert_array_equal(found, whole[kept])
    np.testing.assert_array_equal(whole.reshape(60, 60), whole.reshape(60, 60).T)


def report() -> None:
    """Print the core type and a digest of distances, many of a few of them compared."""
    libraries = ThreadpoolController().select(user_api="blas").info()
    digest = hashlib.sha256()
    for dims in DIMS:
        rows = images(dims, 1700, dims)
        whole = matrix(rows[:50], rows, normalise=True, memory_mib=64)
        for first, last in ((0, 1), (3, 10), (1, 50)):
            for begin, end in ((0, 1), (5, 800), (61, 1700)):
                found = matrix(rows[first:last], rows[begin:end], normalise=True, memory_mib=0.5)
                assert (found == whole[first:last, begin:end]).all(), (dims, first, begin)
        digest.update(whole.tobytes())
    digest.update(rerank(images(5, 200, 128), 20).tobytes())
    print({library.get("architecture") for library in libraries}, digest.hexdigest())  # noqa: T201


@pytest.mark.parametrize("core", ("Haswell", "Zen", "Nehalem", "Sandybridge", "Prescott"))
def test_kernels_of_other_processors(core):
    found = set()
    for threads in "12":
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
        env = {**os.environ, "OPENBLAS_CORETYPE": core, **dict.fromkeys(names, threads)}
        code = f"from {__name__} import report; report()"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=PROJECT, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1, found
    # The wheels have Haswell's kernels for Zen and call Prescott's by the older name.
    if core not in (text := found.pop()) and not {"Zen", "Prescott"} & {core}:
        pytest.skip(f"this BLAS has no kernels for {core}: {text}")
