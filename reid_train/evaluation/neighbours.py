"""The nearest of all images to each of them, each pair of images compared once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Distances looked at together: 1 MiB stays in the cache of a core.
PIECE = 2**18
# Candidates that wait, and places of a table in which they are sorted: 6 and 8 MiB.
WAITING, TABLE = 2**19, 2**20
# The smallest of every so many distances bound the k-th smallest of all from above.
GROUP = 16
# Of an infinite distance, after all images.
FAR = np.uint64(0xFF80_0000_FFFF_FFFF)


class Neighbours:
    """Collects the k nearest of each of N images from blocks of ``Distances.upper``.

    A block has distances of a few images to all that come after them, so an image meets those
    before it in the columns of earlier blocks. Kept are the k nearest met so far; what is beyond
    the k-th of them is left out by one comparison. Memory: 8 k bytes an image and about 30 MiB.
    """

    def __init__(self, count: int, k: int) -> None:
        self.k = k
        self.keys = np.full((count, k), FAR)
        self.limits = np.full(count, np.inf, np.float32)  # the k-th distance met

    def add(self, first: int, block: np.ndarray) -> None:
        """block: (n, N - first) float32, of images ``first`` to ``first + n`` to all from ``first``
        on. Blocks follow each other, from the first image to the last.
        """
        count, width = block.shape
        later = slice(first + count, first + width)
        if first == 0 and count < width:
            self._bound(later, block[:, count:])
        waiting: list[tuple[np.ndarray, np.ndarray]] = []
        step = max(1, PIECE // width)
        for start in range(0, count, step):
            piece = block[start : start + step]
            images = np.arange(first + start, first + start + len(piece))
            self._rows(images, first, piece)
            waiting.append(_below(piece[:, count:], self.limits[later], images))
            if sum(len(keys) for _, keys in waiting) > WAITING:
                self._columns(later, waiting)
                waiting = []
        self._columns(later, waiting)

    def indices(self) -> np.ndarray:
        """(N, k) int64: nearest first, equal distances by index. Ends the collection."""
        self.keys.sort(axis=1)
        return (self.keys & np.uint64(0xFFFF_FFFF)).astype(np.int64)

    def _bound(self, later: slice, block: np.ndarray) -> None:
        """Limits before anything was met: the k-th smallest of the smallest of groups of rows."""
        least = block[: len(block) // (GROUP // 2) * (GROUP // 2)]
        groups = len(least) // (GROUP // 2)
        if groups < self.k:
            return
        for start in range(0, block.shape[1], step := max(1, TABLE // len(block))):
            part = least[:, start : start + step]
            minima = part.reshape(groups, GROUP // 2, -1).min(axis=1)
            found = np.partition(minima.T, self.k - 1, axis=1)[:, self.k - 1]
            self.limits[later.start + start :][: len(found)] = found

    def _rows(self, images: np.ndarray, first: int, piece: np.ndarray) -> None:
        """The images of rows of distances meet the images from ``first`` on."""
        width = piece.shape[1]
        groups = width // GROUP
        if groups >= self.k:
            least = piece[:, : groups * GROUP].reshape(len(piece), GROUP, groups).min(axis=1)
        else:
            least = piece
        limits = self.limits[images]
        if least.shape[1] >= self.k:
            least = np.partition(least, self.k - 1, axis=1)[:, self.k - 1]
            limits = np.minimum(limits, least)
        places, rows, columns = nonzero(piece <= limits[:, None])
        counts = np.bincount(rows, minlength=len(images))
        self._merge(images, counts, _keys(piece.ravel()[places], columns + first))

    def _columns(self, later: slice, waiting: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """The images of columns of distances meet those of the rows."""
        if not any(len(keys) for _, keys in waiting):
            return
        columns = np.concatenate([columns for columns, _ in waiting])
        # Of small integers the sort is one by digits.
        kind = np.min_scalar_type(later.stop - later.start)
        order = np.argsort(columns.astype(kind), kind="stable")
        counts = np.bincount(columns)
        images = np.flatnonzero(counts)
        keys = np.concatenate([keys for _, keys in waiting])[order]
        self._merge(images + later.start, counts[images], keys)

    def _merge(self, images: np.ndarray, counts: np.ndarray, keys: np.ndarray) -> None:
        """``counts[n]`` keys more for ``images[n]``, one image after another."""
        for part, some in _parts(counts, TABLE, self.k):
            length = counts[part]
            width = self.k + int(length.max())
            table = np.full((len(length), width), FAR)
            table[:, : self.k] = self.keys[images[part]]
            # Rows of the table end with as many places as the image of most keys has.
            ends = np.cumsum(length)
            shift = np.arange(len(length)) * width + self.k - (ends - length)
            table.ravel()[np.arange(ends[-1]) + np.repeat(shift, length)] = keys[some]
            table.partition(self.k - 1, axis=1)
            self.keys[images[part]] = table[:, : self.k]
            self.limits[images[part]] = _values(table[:, self.k - 1])


def _below(
    piece: np.ndarray, limits: np.ndarray, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of what is not above the limit of its column; its keys, by the image of its row."""
    _, rows, columns = nonzero(piece <= limits)
    return columns.astype(np.int32), _keys(piece[rows, columns], images[rows])


def nonzero(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places in a flat mask, rows and columns of what is true in it, row after row: numpy's own for
    two axes takes several times as long where little is.
    """
    height, width = mask.shape
    places = np.flatnonzero(mask)
    ends = np.searchsorted(places, np.arange(height + 1) * width)
    rows = np.repeat(np.arange(height), np.diff(ends))
    return places, rows, places - rows * width


def _parts(counts: np.ndarray, size: int, more: int) -> Iterator[tuple[slice, slice]]:
    """Images whose table has about ``size`` places, and the part of the keys that is theirs."""
    start = done = 0
    while start < len(counts):
        widths = np.maximum.accumulate(counts[start : start + size // more]) + more
        count = max(1, int(np.searchsorted(widths * np.arange(1, len(widths) + 1), size)))
        keys = int(counts[start : start + count].sum())
        yield slice(start, start + count), slice(done, done + keys)
        start, done = start + count, done + keys


def _keys(distances: np.ndarray, images: np.ndarray) -> np.ndarray:
    """uint64 that sort by distance (float32), then by image."""
    bits = distances.view(np.uint32)
    # All bits of a negative number are turned, of others the sign alone.
    turned = (distances.view(np.int32) >> 31).view(np.uint32) | np.uint32(0x8000_0000)
    return ((bits ^ turned).astype(np.uint64) << np.uint64(32)) | images.astype(np.uint64)


def _values(keys: np.ndarray) -> np.ndarray:
    """The distances of keys."""
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    turned = np.where(bits >> 31, np.uint32(0x8000_0000), np.uint32(0xFFFF_FFFF))
    return (bits ^ turned).view(np.float32)
