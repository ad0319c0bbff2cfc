"""Galleries of tracks: the images of one vehicle that passes one camera, ranked as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.datasets.index import ImageRow
from pipeline.datasets.protocols import TRACK
from reid_train.evaluation.embeddings import Embeddings


@dataclass(frozen=True)
class Tracks:
    """T tracks of a gallery of G images, in the order of their first images.

    A track is as near to a query as its nearest image (Liu et al., TMM 2018: the similarity of an
    image and a track is the greatest over the track's images). order: (G,) gallery indices, track
    by track, ascending in each. starts: (T,) where a track begins in it. pids, camids: (T,).
    """

    order: np.ndarray
    starts: np.ndarray
    pids: np.ndarray
    camids: list[int | None]

    @classmethod
    def of(cls, gallery: Sequence[ImageRow]) -> Tracks:
        """Of gallery rows that all have a track (``apply_protocol`` leaves out the others)."""
        numbers: dict[str, int] = {}
        track = np.array([numbers.setdefault(row.extra[TRACK], len(numbers)) for row in gallery])
        order = np.argsort(track, kind="stable")
        starts = np.searchsorted(track[order], np.arange(len(numbers)))
        first = [gallery[place] for place in order[starts].tolist()]
        return cls(
            order,
            starts,
            np.array([row.pid for row in first], np.int64),
            [row.camid for row in first],
        )

    def __len__(self) -> int:
        return len(self.starts)

    def gallery(self) -> Embeddings:
        """The tracks as what is ranked, without features."""
        return Embeddings(np.empty((len(self), 0), np.float32), self.pids, self.camids)

    def watch(self, chunks: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Distances to tracks (n, T) from distances to images (n, G), chunk by chunk."""
        for start, chunk in chunks:
            near = np.empty((len(chunk), len(self)), chunk.dtype)
            for place, row in enumerate(chunk):
                np.minimum.reduceat(row[self.order], self.starts, out=near[place])
            yield start, near

    def nearest(self, row: np.ndarray) -> np.ndarray:
        """Of distances to images (G,), the gallery index of each track's nearest image: (T,)."""
        values = row[self.order]
        sizes = np.diff(np.append(self.starts, len(values)))
        limits = np.repeat(np.minimum.reduceat(values, self.starts), sizes)
        found = np.flatnonzero(values == limits)
        # The first of equally near images.
        _, first = np.unique(np.searchsorted(self.starts, found, side="right"), return_index=True)
        return self.order[found[first]]
