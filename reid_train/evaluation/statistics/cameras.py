"""Retrieval between two cameras: each query ranked among the images of one gallery camera alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reid_train.evaluation.exclusion import Matches, Pairs
from reid_train.evaluation.order import Order, farthest, pieces


@dataclass(frozen=True)
class CameraFigures:
    """One entry per query and gallery camera with a right match, M of them. query: (M,) its place;
    camera: (M,) the gallery's camera; ap, first: (M,) as in ``RetrievalMetrics``, of the gallery
    images of that camera alone.
    """

    query: np.ndarray
    camera: np.ndarray
    ap: np.ndarray
    first: np.ndarray


class CameraRanks:
    """Notes in passing where the right matches of each query stand among their camera's images.

    matches: the exclusion rule; what it hides is hidden here too. g_camids: (G,) int, -1 where not
    known: such images are in no pair. Exact; equal distances rank by ascending gallery index. What
    is kept grows with the right matches alone.
    """

    def __init__(self, matches: Matches, g_camids: np.ndarray) -> None:
        self.matches = matches
        names, codes = np.unique(g_camids, return_inverse=True)
        self.names = names
        self.codes = codes.astype(np.int64)
        self.known = g_camids >= 0
        self.complete = bool(self.known.all())
        self.noted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def watch(self, chunks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Pass on chunks of distances (n, G), finite float32."""
        for start, chunk in chunks:
            for first, piece in pieces(start, chunk):
                right, hidden = self.matches.pairs(first, first + len(piece))
                if not self.complete:
                    right = right.part(self.known[right.gallery])
                if len(right):
                    self.noted.append(self._ranks(first, piece, right, hidden))
            yield start, chunk

    def _ranks(
        self, first: int, piece: np.ndarray, right: Pairs, hidden: Pairs
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries (P,), ascending, numbers of cameras (P,), ascending in each, and 0-based ranks
        (P,) among the camera's images, ascending in each, of the right images.
        """
        order = Order.within(piece, farthest(piece, right), hidden, right)
        query = np.repeat(np.arange(len(piece)), np.diff(order.bounds))
        groups = query * len(self.names) + self.codes[order.gallery]
        by_camera = np.argsort(groups, kind="stable")
        groups = groups[by_camera]
        places = np.flatnonzero(order.right[by_camera])
        found = groups[places]
        return (
            first + found // len(self.names),
            found % len(self.names),
            places - np.searchsorted(groups, found),
        )

    def figures(self) -> CameraFigures:
        """What was noted, by query and camera."""
        if not self.noted:
            empty = np.empty(0, np.int64)
            return CameraFigures(empty, empty, np.empty(0), empty)
        query, camera, ranks = (np.concatenate(part) for part in zip(*self.noted, strict=True))
        new = (np.diff(query, prepend=-1) != 0) | (np.diff(camera, prepend=-1) != 0)
        starts = np.flatnonzero(new)
        counts = np.diff(starts, append=len(query))
        within = np.arange(len(query)) - np.repeat(starts, counts)
        precision = (within + 1) / (ranks + 1)
        ap = np.add.reduceat(precision, starts) / counts
        return CameraFigures(query[starts], self.names[camera[starts]], ap, ranks[starts])
