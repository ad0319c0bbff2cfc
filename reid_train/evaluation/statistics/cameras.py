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
        self.high = codes.astype(np.uint64) << np.uint64(32)
        self.known = g_camids >= 0
        self.noted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def watch(self, chunks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Pass on chunks of distances (n, G), finite float32."""
        for start, chunk in chunks:
            for place, row in enumerate(chunk, start):
                positives, excluded = self.matches.of(place)
                if len(positives):
                    positives = positives[self.known[positives]]
                if len(positives):
                    camera, ranks = self.ranks(row, positives, excluded)
                    self.noted.append((np.full(len(camera), place), camera, ranks))
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
        keys = self.high[near] | ordered_bits(row[near])
        targets = self.high[positives] | ordered_bits(row[positives])
        targets.sort()
        keys.sort()
        places = np.searchsorted(keys, targets, side="left")
        high = targets & ~np.uint64(2**32 - 1)
        starts = np.searchsorted(keys, high, side="left")
        cameras = (high >> np.uint64(32)).astype(np.int64)
        following = np.minimum(places + 1, len(keys) - 1)
        if not ((keys[following] == targets) & (following > places)).any():
            return cameras, places - starts
        # Some distance occurs twice in a camera: order the near images by (key, index).
        order = near[np.argsort(self.high[near] | ordered_bits(row[near]), kind="stable")]
        places = np.flatnonzero(np.isin(order, positives, assume_unique=True))
        return cameras, places - starts

    def figures(self) -> CameraFigures:
        """What was noted, by query and camera."""
        if not self.noted:
            empty = np.empty(0, np.int64)
            return CameraFigures(empty, empty, np.empty(0), empty)
        query, camera, ranks = (np.concatenate(column) for column in zip(*self.noted, strict=True))
        new = (np.diff(query, prepend=-1) != 0) | (np.diff(camera, prepend=-1) != 0)
        starts = np.flatnonzero(new)
        counts = np.diff(starts, append=len(query))
        within = np.arange(len(query)) - np.repeat(starts, counts)
        precision = (within + 1) / (ranks + 1)
        ap = np.add.reduceat(precision, starts) / counts
        return CameraFigures(query[starts], self.names[camera[starts]], ap, ranks[starts])


def ordered_bits(values: np.ndarray) -> np.ndarray:
    """uint64 below 2^32 that are ordered as the float32 ``values`` are: their bits, those of
    negative numbers turned over. 0 and -0 are one.
    """
    bits = (values.astype(np.float32) + np.float32(0)).view(np.int32)
    negative = bits < 0
    if not negative.any():
        return bits.astype(np.uint64) | np.uint64(2**31)
    return np.where(negative, ~bits.view(np.uint32), bits.view(np.uint32) | 2**31).astype(np.uint64)
