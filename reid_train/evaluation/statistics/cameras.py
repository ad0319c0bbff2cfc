"""Retrieval between two cameras: each query ranked among the images of one gallery camera alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reid_train.evaluation.exclusion import Matches


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
        # A camera's number above the 32 bits of a distance: sorted by camera, then by distance.
        self.high = codes.astype(np.int64) << 32
        self.known = g_camids >= 0
        self.complete = bool(self.known.all())
        self.noted: list[tuple[int, np.ndarray, np.ndarray]] = []

    def watch(self, chunks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Pass on chunks of distances (n, G), finite float32."""
        for start, chunk in chunks:
            for place, row in enumerate(chunk, start):
                positives, excluded = self.matches.of(place)
                if not self.complete:
                    positives = positives[self.known[positives]]
                if len(positives):
                    self.noted.append((place, *self.ranks(row, positives, excluded)))
            yield start, chunk

    def ranks(
        self, row: np.ndarray, positives: np.ndarray, excluded: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of cameras (P,), ascending, and 0-based ranks (P,) among their images, ascending
        in each, of the positives of one query.
        """
        near = row <= row[positives].max()
        near[excluded] = False
        near = np.flatnonzero(near)
        unsorted = self.high[near] + ordered_bits(row[near])
        targets = np.sort(unsorted[np.searchsorted(near, positives)])
        keys = np.sort(unsorted)
        cameras = (targets + 2**31) >> 32
        starts = np.searchsorted(keys, (cameras << 32) - 2**31)
        places = np.searchsorted(keys, targets)
        if not np.array_equal(np.searchsorted(keys, targets, side="right"), places + 1):
            # Some distance occurs twice in a camera: order the near images by (key, index).
            order = near[np.argsort(unsorted, kind="stable")]
            places = np.flatnonzero(np.isin(order, positives, assume_unique=True))
        return cameras, places - starts

    def figures(self) -> CameraFigures:
        """What was noted, by query and camera."""
        if not self.noted:
            empty = np.empty(0, np.int64)
            return CameraFigures(empty, empty, np.empty(0), empty)
        places, cameras, ranked = zip(*self.noted, strict=True)
        query = np.repeat(places, [len(found) for found in ranked])
        camera, ranks = np.concatenate(cameras), np.concatenate(ranked)
        new = (np.diff(query, prepend=-1) != 0) | (np.diff(camera, prepend=-1) != 0)
        starts = np.flatnonzero(new)
        counts = np.diff(starts, append=len(query))
        within = np.arange(len(query)) - np.repeat(starts, counts)
        precision = (within + 1) / (ranks + 1)
        ap = np.add.reduceat(precision, starts) / counts
        return CameraFigures(query[starts], self.names[camera[starts]], ap, ranks[starts])


def ordered_bits(values: np.ndarray) -> np.ndarray:
    """int32 that are ordered as the float32 ``values`` are: their bits, those of negative numbers
    turned over. 0 and -0 are one.
    """
    bits = (values.astype(np.float32, copy=False) + np.float32(0)).view(np.int32)
    negative = bits < 0
    return np.where(negative, bits ^ np.int32(2**31 - 1), bits) if negative.any() else bits
