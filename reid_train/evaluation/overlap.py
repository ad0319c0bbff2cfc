"""How much images share of their k-reciprocal features: sums of the smaller of two shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from reid_train.evaluation.neighbours import nonzero

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Summands, and sums, that are in memory at once: 2 MiB of each array of float64.
BATCH = 2**18
# Shares of images that meet others one by one: 4 MiB.
DENSE = 2**20
# Images that meet the same others.
ROWS = 480
# How much more than the least that must be shared is looked at of an image: more costs time, and
# leaves fewer pairs to be summed in full.
EXTRA = 0.1


def shared_mass(
    rows: csr_matrix, inverted: csr_matrix, others: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, float64 (n, G)): sums over j of min(rows[i, j], inverted[j, g]).

    rows: CSR (n, N). inverted: CSR (N, G), the columns of G = ``others`` images. Sums of shares
    above 2e-9, in float32, are exact, so that no order of summation matters.
    """
    count = len(rows.indptr) - 1
    lengths = np.diff(inverted.indptr)[rows.indices]
    ends = np.concatenate([[0], np.cumsum(lengths)])[rows.indptr]
    start = 0
    while start < count:
        stop = int(np.searchsorted(ends, ends[start] + BATCH, side="right")) - 1
        stop = max(start + 1, min(stop, start + BATCH // others))
        part = slice(rows.indptr[start], rows.indptr[stop])
        found = inverted[rows.indices[part]]
        counts = lengths[part]
        smaller = np.minimum(found.data, np.repeat(rows.data[part], counts))
        bases = np.repeat(np.arange(stop - start) * others, np.diff(rows.indptr[start : stop + 1]))
        places = np.repeat(bases, counts)
        places += found.indices
        sums = np.bincount(places, smaller, minlength=(stop - start) * others)
        yield start, sums.reshape(-1, others)
        start = stop


def pairs_sharing(
    encoding: csr_matrix, least: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield images i, others g >= i, both ascending, and what each pair shares, float64: all pairs
    that share ``least`` or more, some that share less, and where it is 0 all that share anything.

    encoding: CSR (N, N), rows sum to 1. The largest shares of an image are compared first: what is
    left of it bounds what a pair can share besides.
    """
    count = len(encoding.indptr) - 1
    for start in range(0, count, ROWS):
        rest = encoding[start:]
        rows = rest[:ROWS]
        largest, left = _largest(rows, 1 - least + EXTRA)
        found: list[tuple[np.ndarray, ...]] = []
        for first, sums in shared_mass(largest, rest.T.tocsr(), count - start):
            bounds = np.maximum(least - left[first : first + len(sums)], np.finfo(float).tiny)
            places, images, others = nonzero(sums >= bounds[:, None])
            images += first
            after = others >= images
            found.append((images[after], others[after], sums.ravel()[places[after]]))
        images, others, shared = map(np.concatenate, zip(*found, strict=True))
        if largest is not rows:
            shared = _pair_mass(rest, images, others, count)
        yield images + start, others + start, shared


def _largest(rows: csr_matrix, mass: float) -> tuple[csr_matrix, np.ndarray]:
    """The largest entries of every row, ``mass`` of it at least; the sum of the others, (n,)."""
    from scipy.sparse import csr_matrix

    count, bounds = len(rows.indptr) - 1, rows.indptr
    if mass >= 1:
        return rows, np.zeros(count)
    owners = np.repeat(np.arange(count), np.diff(bounds))
    # Positive floats sort as their bits do.
    order = np.argsort((owners + 1 << 32) - rows.data.view(np.int32))
    shares = rows.data[order].astype(np.float64)
    sums = np.concatenate([[0], np.cumsum(shares)])
    kept = sums[:-1] - sums[bounds[:-1]][owners] < mass
    left = np.bincount(owners[~kept], shares[~kept], minlength=count) + 1e-6  # of rounding
    ends = np.cumsum(np.bincount(owners[kept], minlength=count))
    chosen = order[kept]
    parts = rows.data[chosen], rows.indices[chosen], np.concatenate([[0], ends])
    return csr_matrix(parts, shape=rows.shape), left


def _pair_mass(
    encoding: csr_matrix, images: np.ndarray, others: np.ndarray, size: int
) -> np.ndarray:
    """What pairs share, (n,) float64. encoding: CSR of ``size`` columns. images: ascending."""
    lengths = np.diff(encoding.indptr)[others]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    shared = np.empty(len(images))
    start = 0
    while start < len(images):
        stop = min(
            int(np.searchsorted(ends, ends[start] + BATCH, side="right")) - 1,
            int(np.searchsorted(images, images[start] + max(1, DENSE // size))),
        )
        pairs = slice(start, max(start + 1, stop))
        first, last = images[pairs][[0, -1]]
        dense = encoding[first : last + 1].toarray().ravel()
        found = encoding[others[pairs]]
        places = np.repeat((images[pairs] - first) * size, lengths[pairs])
        places += found.indices
        owners = np.repeat(np.arange(pairs.stop - start), lengths[pairs])
        smaller = np.minimum(found.data, dense[places])
        shared[pairs] = np.bincount(owners, smaller, minlength=pairs.stop - start)
        start = pairs.stop
    return shared
