"""The order of the gallery for a few queries at once, only as far as it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reid_train.evaluation.exclusion import Matches, Pairs

# Distances that are looked at together: 1 MiB of them stays in the caches of one core while all
# that is noted of them is noted. Of those at most so many, beside one query's, are sorted at once.
PIECE, SORTED = 2**18, 2**15
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

    gallery: (C,) int32 gallery indices. right, hidden: (C,) bool, which of them are right matches,
    and which are left out where ranks are counted. bounds: (n + 1,) int64.
    """

    gallery: np.ndarray
    right: np.ndarray
    hidden: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, piece: np.ndarray, right: Pairs, hidden: Pairs, *, least: int = 0) -> Order:
        """Of distances (n, G), n as ``piece_rows`` says: as far as the last right image of each
        query, and so far that the ``least`` nearest are there (G at most); and what is no number,
        which is last. No sort of the gallery: only what is as near as that matters.
        """
        limits = _farthest(piece, right)
        if least:
            limits = np.maximum(limits, _reach(piece, least))
        order = cls._within(piece, limits, right, hidden)
        few = np.diff(order.bounds) < least
        if few.any():
            limits[few] = np.partition(piece[few], least - 1, axis=1)[:, least - 1]
            order = cls._within(piece, limits, right, hidden)
        return order

    @classmethod
    def _within(cls, piece: np.ndarray, limits: np.ndarray, right: Pairs, hidden: Pairs) -> Order:
        """All that is not beyond the limits (n,): one sort of whole numbers made of query, bits of
        the distance, gallery index, whether hidden, whether right.
        """
        far = piece > limits[:, None]
        near = np.logical_not(far, out=far)
        if len(piece) > 1 and np.count_nonzero(near) > SORTED:
            return cls._halves(piece, limits, right, hidden)
        places = np.flatnonzero(near)
        count, gallery = piece.shape
        rows = np.arange(count)
        bounds = np.searchsorted(places, np.arange(count + 1) * gallery)
        sizes = np.diff(bounds)
        keys = _codes(piece.reshape(-1)[places])
        keys += np.repeat((rows << 32) + 2**31, sizes)
        bits = max(1, (gallery - 1).bit_length())
        keys <<= bits
        index = np.repeat(rows * gallery, sizes)
        keys += np.subtract(places, index, out=index)
        keys <<= 2
        keys[np.searchsorted(places, right.query * gallery + right.gallery)] += 1
        left_out = (hidden.query * gallery + hidden.gallery)[near[hidden.query, hidden.gallery]]
        keys[np.searchsorted(places, left_out)] += 2
        del places, index
        keys.sort()
        flags = (keys & 3).astype(np.uint8)
        keys >>= 2
        keys &= (1 << bits) - 1
        return cls(keys.astype(np.int32), (flags & 1).view(bool), flags > 1, bounds)

    @classmethod
    def _halves(cls, piece: np.ndarray, limits: np.ndarray, right: Pairs, hidden: Pairs) -> Order:
        count = len(piece)
        upper, lower = (
            cls._within(
                piece[start:end], limits[start:end], right.of(start, end), hidden.of(start, end)
            )
            for start, end in ((0, count // 2), (count // 2, count))
        )
        columns = zip(
            (upper.gallery, upper.right, upper.hidden, upper.bounds),
            (lower.gallery, lower.right, lower.hidden, lower.bounds[1:] + upper.bounds[-1]),
            strict=True,
        )
        return cls(*(np.concatenate(column) for column in columns))

    def first(self, k: int) -> np.ndarray:
        """Gallery indices (n, k) of the nearest, hidden or not."""
        return self.gallery[self.bounds[:-1, None] + np.arange(k)]

    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """Queries and 0-based ranks among the images not hidden, (P,) each, of the right images:
        query by query, ascending in each.
        """
        found = np.flatnonzero(self.right)
        query = np.searchsorted(self.bounds, found, side="right") - 1
        hidden, begin = np.flatnonzero(self.hidden), self.bounds[query]
        before = np.searchsorted(hidden, found) - np.searchsorted(hidden, begin)
        return query, found - begin - before


class Orders:
    """The orders of one pass over distances, for all who look at a piece of it in turn. matches:
    of what is ranked; least: as of ``Order.of``.
    """

    def __init__(self, matches: Matches, least: int = 0) -> None:
        self.matches, self.least = matches, least
        self._last: tuple[tuple[int, ...], Order] | None = None

    def of(self, start: int, piece: np.ndarray) -> Order:
        """The order of distances (n, G) of the queries from ``start`` on."""
        asked = (start, len(piece), piece.__array_interface__["data"][0])
        if self._last is None or self._last[0] != asked:
            right, hidden = self.matches.pairs(start, start + len(piece))
            self._last = asked, Order.of(piece, right, hidden, least=self.least)
        return self._last[1]


def nearest(piece: np.ndarray, k: int) -> np.ndarray:
    """Gallery indices (n, k) of the k smallest distances of each row of (n, G), k at most G,
    nearest first, ties by index.
    """
    empty = np.empty(0, np.int64)
    none = Pairs(empty, empty, np.zeros(len(piece) + 1, np.int64))
    return Order.of(piece, none, none, least=k).first(k)


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


def _farthest(piece: np.ndarray, right: Pairs) -> np.ndarray:
    """The distance (n,) of each query's last right image, NaN where one is NaN; the least there is
    where a query has none.
    """
    least = -np.inf if piece.dtype.kind == "f" else np.iinfo(piece.dtype).min
    limits = np.full(len(piece), least, piece.dtype)
    asked = right.sizes > 0
    if asked.any():
        values = piece[right.query, right.gallery]
        limits[asked] = np.maximum.reduceat(values, right.bounds[:-1][asked])
    return limits


def _reach(piece: np.ndarray, k: int) -> np.ndarray:
    """Distances (n,) within which the k nearest of each row most likely lie, k at most G."""
    gallery = piece.shape[1]
    if k >= gallery:
        return piece.max(axis=1)
    step = max(1, min(SAMPLED, gallery // (4 * k)))
    # So many of the sampled ones are hardly ever all among the k nearest.
    place = k - 1 if step == 1 else int(k / step + 3 * (k / step) ** 0.5) + 1
    return np.partition(piece[:, ::step], place, axis=1)[:, place]
