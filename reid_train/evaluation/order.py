"""The order of the gallery for a few queries at once, only as far as it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reid_train.evaluation.exclusion import Pairs

# Distances that are looked at together: 1 MiB of them stays in the caches of one core while all
# that is noted of them is noted.
PIECE = 2**18
# Of the rows of a piece every SAMPLED-th distance is looked at, to guess how far k images reach.
SAMPLED = 16


def piece_rows(gallery: int) -> int:
    """How many queries' distances to a gallery are looked at together."""
    return max(1, PIECE // max(1, gallery))


def pieces(start: int, chunk: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """A chunk of distances (n, G) from query ``start`` on, a few rows at a time."""
    rows = piece_rows(chunk.shape[1])
    for first in range(0, len(chunk), rows):
        yield start + first, chunk[first : first + rows]


@dataclass(frozen=True)
class Order:
    """The nearest gallery images of each of n queries, nearest first; equal distances by gallery
    index. Of query k they are those from ``bounds[k]`` to ``bounds[k+1]``.

    gallery: (C,) int64 gallery indices. right: (C,) bool, the images that were asked for as such.
    bounds: (n + 1,) int64.
    """

    gallery: np.ndarray
    right: np.ndarray
    bounds: np.ndarray

    @classmethod
    def within(
        cls,
        piece: np.ndarray,
        limits: np.ndarray,
        hidden: Pairs | None = None,
        right: Pairs | None = None,
    ) -> Order:
        """Of distances (n, G), n as ``piece_rows`` says, all images that are not beyond the limits
        (n,), and NaN, which is last. hidden: left out. right: within the limits, not hidden.

        One sort of whole numbers: query, bits of the distance, gallery index, whether right.
        """
        near = piece > limits[:, None]
        np.logical_not(near, out=near)
        if hidden is not None:
            near[hidden.query, hidden.gallery] = False
        places = np.flatnonzero(near)
        count, gallery = piece.shape
        bounds = np.searchsorted(places, np.arange(count + 1) * gallery)
        query = np.repeat(np.arange(count), np.diff(bounds))
        keys = _codes(piece.reshape(-1)[places])
        keys += (query << 32) + 2**31
        index = max(1, (gallery - 1).bit_length())
        keys <<= index
        keys += places - query * gallery
        keys <<= 1
        if right is not None:
            keys[np.searchsorted(places, right.query * gallery + right.gallery)] += 1
        keys.sort()
        flags = (keys & 1).astype(bool)
        keys >>= 1
        keys &= (1 << index) - 1
        return cls(keys, flags, bounds)


def _codes(values: np.ndarray) -> np.ndarray:
    """int64 within 32 bits and a sign, ordered as the values (C,) are."""
    if values.dtype == np.float32:
        return ordered_bits(values).astype(np.int64)
    return np.unique(values, return_inverse=True)[1].astype(np.int64) - 2**31


def ordered_bits(values: np.ndarray) -> np.ndarray:
    """int32 that are ordered as the float32 ``values`` are: their bits, those of negative numbers
    turned over. 0 and -0 are one; NaN is last.
    """
    bits = (values.astype(np.float32, copy=False) + np.float32(0)).view(np.int32)
    negative = bits < 0
    if not negative.any():
        return bits
    bits = np.where(negative, bits ^ np.int32(2**31 - 1), bits)
    bits[np.isnan(values)] = 2**31 - 1
    return bits


def ranks(piece: np.ndarray, right: Pairs, hidden: Pairs) -> tuple[Order, np.ndarray]:
    """0-based ranks (P,) of the right images among those not hidden, query by query as in
    ``right``, ascending in each; and the order as far as the last of them. No sort of the gallery:
    only distances up to that of the last right image matter. A query without one has no order.
    """
    order = Order.within(piece, farthest(piece, right), hidden, right)
    found = np.flatnonzero(order.right)
    return order, found - order.bounds[right.query]


def farthest(piece: np.ndarray, right: Pairs) -> np.ndarray:
    """The distance (n,) of each query's last right image, NaN where one is NaN; less than all
    distances where there is none.
    """
    least = -np.inf if piece.dtype.kind == "f" else np.iinfo(piece.dtype).min
    limits = np.full(len(piece), least, piece.dtype)
    asked = right.sizes > 0
    if asked.any():
        values = piece[right.query, right.gallery]
        limits[asked] = np.maximum.reduceat(values, right.bounds[:-1][asked])
    return limits


def nearest(piece: np.ndarray, k: int) -> np.ndarray:
    """Gallery indices (n, k) of the k smallest distances of each row of (n, G), k at most G,
    nearest first, ties by index.
    """
    gallery = piece.shape[1]
    if k >= gallery:
        limits = piece.max(axis=1)
    else:
        step = max(1, min(SAMPLED, gallery // (4 * k)))
        # So many of the sampled ones are hardly ever all among the k nearest.
        place = k - 1 if step == 1 else int(k / step + 3 * (k / step) ** 0.5) + 1
        limits = np.partition(piece[:, ::step], place, axis=1)[:, place]
    order = Order.within(piece, limits)
    few = np.diff(order.bounds) < k
    if few.any():
        limits[few] = np.partition(piece[few], k - 1, axis=1)[:, k - 1]
        order = Order.within(piece, limits)
    return order.gallery[order.bounds[:-1, None] + np.arange(k)]
