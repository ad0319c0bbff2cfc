"""k-reciprocal encoding on a sparse neighbour graph: re-ranking and Jaccard distances."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.distances import Distances, check_lengths, unit_rows
from reid_train.evaluation.embeddings import Embeddings, to_numpy
from reid_train.evaluation.neighbours import Neighbours
from reid_train.evaluation.overlap import pairs_sharing, shared_mass

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MEMORY_MIB = 512
# Numbers of the pairs compared at once: 256 KiB, twice.
PAIRS = 2**16


def rerank_distances(
    query: Embeddings,
    gallery: Embeddings,
    *,
    normalise: bool = True,
    k1: int = 20,
    k2: int = 6,
    lam: float = 0.3,
) -> np.ndarray:
    """Re-ranked distances (Q, G) float32 (Zhong et al., Re-ranking Person Re-identification with
    k-reciprocal Encoding, CVPR 2017).

    lam weighs the original distance: squared Euclidean, row i divided by the largest distance of
    image i to all queries and gallery images. Identities and cameras are not looked at.
    Memory: the result plus about 8 (k1 + 1)^2 bytes per image; never an N x N matrix.
    Equal to the authors' code on Euclidean distances; some published evaluators hand it squared
    ones (it squares its input, so they rank with the 4th power) or compute in float16.
    """
    queries, total = len(query), len(query) + len(gallery)
    check_rerank(total, k1, k2)
    _check_memory(queries, len(gallery), query.features.shape[1], k1)
    if not 0 <= lam <= 1:
        raise ReidpipeError(f"found lam={lam}; expected a weight from 0 to 1")
    if not len(gallery):
        return np.empty((queries, 0), np.float32)
    with np.errstate(over="ignore"):
        sides = [np.asarray(side.features, np.float32) for side in (query, gallery)]
    check_lengths(*sides)
    features = np.concatenate(sides)
    if normalise:
        features = unit_rows(features)
    neighbours, original, farthest = _compare(features, queries, max(k1 + 1, k2))
    farthest[farthest <= 0] = 1  # all images identical: every distance is 0

    def weights(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.exp(-_pair_distances(features, rows, columns) / farthest[rows])

    encoding = _encode(neighbours, k1 + 1, _half(k1), k2, weights)
    original *= lam / farthest[:queries, None]
    inverted = encoding[queries:].T.tocsr()
    for start, shared in shared_mass(encoding[:queries], inverted, len(gallery)):
        original[start : start + len(shared)] += (1 - lam) * (1 - shared / (2 - shared))
    return original


def jaccard_graph(features: Any, *, k1: int = 30, k2: int = 6, within: float = 1.0) -> csr_matrix:
    """Jaccard distances below 1 between N images: symmetric CSR (N, N) float32 in 0..1.

    features: (N, D), L2-normalised by the caller if the method does so. Pairs that are not stored
    have distance 1; the diagonal is stored. ``DBSCAN(metric="precomputed")`` takes it as it is.
    Pairs farther than ``within`` (0..1) are left out as well: of features that tell people apart
    badly a fifth of all N^2 pairs can be below 1, and few below a radius one would cluster with.
    The encoding of SpCL / ClusterContrast: unlike re-ranking the neighbour list has k1 entries
    (the image itself included) and weights are a soft-max of negative squared distances.
    """
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(to_numpy(features), dtype=np.float32)
    _check(len(features), k1, k2, k1, "give smaller k1, k2, which a recipe's hook may set")
    nearest = Neighbours(len(features), max(k1, k2))
    for start, block in _search(features):
        nearest.add(start, block)
        del block  # with its memory, after the last
    neighbours = nearest.indices()

    def weights(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.exp(-_pair_distances(features, rows, columns))

    encoding = _encode(neighbours, k1, _half(k1), k2, weights)
    # Of a distance that is float32 afterwards.
    least = max(2 * (1 - within) / (2 - within) - 1e-6, 0)
    rows, columns, values = [], [], []
    for images, others, shared in pairs_sharing(encoding, least):
        distances = np.maximum(1 - shared / (2 - shared), 0).astype(np.float32)
        kept = distances <= within
        rows.append(images[kept].astype(np.int32))
        columns.append(others[kept].astype(np.int32))
        values.append(distances[kept])
    joined = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    return _both_ways(*joined, len(features))


def _search(features: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    return Distances(features, features, normalise=False, memory_mib=MEMORY_MIB).upper()


def _compare(
    features: np.ndarray, queries: int, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k nearest of N images (N, k), distances of the first ``queries`` to the others, and the
    largest distance of each image (N,).
    """
    count = len(features)
    nearest = Neighbours(count, k)
    original = np.empty((queries, count - queries), np.float32)
    farthest = np.full(count, -np.inf, np.float32)
    for start, block in _search(features):
        nearest.add(start, block)
        stop = start + len(block)
        farthest[start:stop] = np.maximum(farthest[start:stop], block.max(axis=1))
        farthest[stop:] = np.maximum(farthest[stop:], block[:, stop - start :].max(axis=0))
        if start < queries:
            asked = min(stop, queries)
            original[start:asked] = block[: asked - start, queries - start :]
    return nearest.indices(), original, farthest


def check_rerank(images: int, k1: int, k2: int) -> None:
    """Raise ReidpipeError for parameters of ``rerank_distances`` that make no sense or ask for more
    than ``images`` query and gallery images.
    """
    _check(images, k1, k2, k1 + 1, "leave out --rerank, or in Python give smaller k1, k2")


def _check(images: int, k1: int, k2: int, listed: int, cure: str) -> None:
    """listed: entries of the reciprocal neighbour list that k1 stands for."""
    if listed < 2 or k2 < 1:
        least = 2 - (listed - k1)
        raise ReidpipeError(f"found k1={k1}, k2={k2}; expected k1 at least {least}, k2 at least 1")
    if images < max(listed, k2):
        raise ReidpipeError(
            f"found {images} images for k1={k1}, k2={k2}; expected at least {max(listed, k2)} "
            f"images; {cure}"
        )


def _check_memory(queries: int, gallery: int, dims: int, k1: int) -> None:
    total = queries + gallery
    needed = 4 * queries * gallery + 8 * total * dims + 8 * total * (k1 + 1) ** 2
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise ReidpipeError(
            f"re-ranking {queries} queries against {gallery} images needs about "
            f"{needed / 2**30:.1f} GiB; expected at most the {present / 2**30:.1f} GiB of this "
            "machine; leave out --rerank"
        )


def _half(k1: int) -> int:
    # Python and numpy round half to even, as the authors' code does: k1=25 gives 12.
    return round(k1 / 2) + 1


def _reciprocal(neighbours: np.ndarray) -> csr_matrix:
    """Pairs (i, j) that are in each other's neighbour list: (N, N) of ones."""
    from scipy.sparse import csr_matrix

    count, k = neighbours.shape
    ones = np.ones(count * k, np.float32)
    bounds = np.arange(0, count * k + 1, k)
    forward = csr_matrix((ones, neighbours.ravel(), bounds), shape=(count, count))
    return csr_matrix(forward.multiply(forward.T))


def _encode(
    neighbours: np.ndarray,
    listed: int,
    half: int,
    k2: int,
    weights: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> csr_matrix:
    """The k-reciprocal feature of every image: CSR (N, N), rows sum to 1.

    neighbours: nearest first, as many as the longest of the three lists that begin with them.
    The set R of an image is its reciprocal neighbours among the first ``listed``; R(c, k1/2) of a
    member c joins it when more than two thirds of it are already there (equation 6); members weigh
    ``weights(i, j)`` (equation 7), then each feature becomes the mean over its k2 nearest images
    (equation 10).
    """
    from scipy.sparse import csr_matrix

    members = _reciprocal(neighbours[:, :listed])
    halves = _reciprocal(neighbours[:, :half])
    count = len(neighbours)
    sizes = np.asarray(halves.sum(axis=1)).ravel()
    overlap = (members @ halves.T).multiply(members).tocoo()
    joins = 3 * overlap.data > 2 * sizes[overlap.col]
    chosen = csr_matrix(
        (np.ones(joins.sum(), np.float32), (overlap.row[joins], overlap.col[joins])),
        shape=(count, count),
    )
    encoding = csr_matrix(members + chosen @ halves)
    encoding.sort_indices()
    rows = np.repeat(np.arange(count), np.diff(encoding.indptr))
    encoding.data = weights(rows, encoding.indices).astype(np.float32)
    mass = np.asarray(encoding.sum(axis=1)).ravel()
    encoding.data /= mass[rows]
    if k2 == 1:
        return encoding
    mean = csr_matrix(
        (
            np.full(count * k2, 1 / k2, np.float32),
            neighbours[:, :k2].ravel(),
            np.arange(0, count * k2 + 1, k2),
        ),
        shape=(count, count),
    )
    return csr_matrix(mean @ encoding)


def _pair_distances(features: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Squared distances of the pairs (rows[n], columns[n]): (n,) float32.

    The pairs are different and ascend. Differences, summed pair by pair: in a product the bits of a
    pair would depend on how many others share its row. Of a pair and its mirror one is computed.
    """
    result = np.empty(len(rows), np.float32)
    codes = rows * np.int64(len(features)) + columns
    mirrored = columns * np.int64(len(features)) + rows
    below = np.flatnonzero(rows > columns)
    places = np.minimum(np.searchsorted(codes, mirrored[below]), len(codes) - 1)
    known = codes[places] == mirrored[below]
    asked = np.delete(np.arange(len(rows)), below[known])
    height = max(1, PAIRS // features.shape[1])
    room = np.empty((2, height, features.shape[1]), np.float32)
    for start in range(0, len(asked), height):
        part = asked[start : start + height]
        apart, others = room[:, : len(part)]
        # Without ``mode`` numpy would write to a buffer first.
        features.take(columns[part], axis=0, out=apart, mode="clip")
        features.take(rows[part], axis=0, out=others, mode="clip")
        apart -= others
        apart *= apart
        result[part] = apart.sum(axis=1)
    result[below[known]] = result[places[known]]
    return result


def _both_ways(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, size: int) -> csr_matrix:
    """The symmetric matrix of what is on and above its diagonal, row after row."""
    from scipy.sparse import csr_matrix

    bounds = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=size))])
    # Sums leave out zeros, and two images may be at distance 0: its bits and 1 are none.
    bits = values.view(np.int32) + 1
    above = csr_matrix((bits, columns, bounds), shape=(size, size))
    below = rows < columns
    both = csr_matrix(
        above + csr_matrix((bits[below], (columns[below], rows[below])), shape=(size, size))
    )
    return csr_matrix(
        ((both.data - 1).view(np.float32), both.indices, both.indptr), shape=both.shape
    )
