"""Retrieval between two cameras: each query ranked among the images of one gallery camera alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reid_train.evaluation.order import Order, Orders, pieces


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

    orders: of what is ranked; what their rule hides is hidden here too. g_camids: (G,) int, -1
    where not known: such images are in no pair. Exact; equal distances rank by ascending gallery
    index. What is kept grows with the right matches alone.
    """

    def __init__(self, orders: Orders, g_camids: np.ndarray) -> None:
        self.orders = orders
        names, codes = np.unique(g_camids, return_inverse=True)
        self.names = names
        self.codes = codes.astype(np.int64)
        self.known = g_camids >= 0
        self.noted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def watch(self, chunks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Pass on chunks of distances (n, G), finite float32."""
        for start, chunk in chunks:
            for first, piece in pieces(start, chunk):
                self._note(first, self.orders.of(first, piece))
            yield start, chunk

    def _note(self, first: int, order: Order) -> None:
        """Keep queries, ascending, numbers of cameras, ascending in each, and 0-based ranks among
        the camera's images, ascending in each, of the right images: (P,) each.
        """
        seen = np.flatnonzero(~order.hidden)
        gallery = order.gallery[seen]
        query = np.searchsorted(order.bounds, seen, side="right") - 1
        groups = query * len(self.names) + self.codes[gallery]
        by_camera = np.argsort(groups, kind="stable")
        groups, right = groups[by_camera], order.right[seen] & self.known[gallery]
        places = np.flatnonzero(right[by_camera])
        found = groups[places]
        query, camera = np.divmod(found, len(self.names))
        self.noted.append((first + query, camera, places - np.searchsorted(groups, found)))

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
