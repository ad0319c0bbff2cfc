"""The stored ranking: the best gallery images of each query, for figures and inspection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np

from pipeline.artifacts.arrays import read_arrays, write_arrays
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train.evaluation.exclusion import Matches
from reid_train.evaluation.metrics import RetrievalMetrics
from reid_train.evaluation.order import Orders, nearest, pieces
from reid_train.evaluation.similarity import similarities
from reid_train.evaluation.tracks import Tracks
from reid_train.models import COSINE

TOP = 50
SHOWN_JUNK = 50


class RankingRecorder:
    """Notes the top of each query's ranking while distances pass by.

    Images hidden by the exclusion rule are listed too, flagged ``junk``: so many extra places are
    kept (50 at most) that the first 50 ranks that count are there in any usual case. matches: of
    images. A gallery of tracks lists each track by its image that is nearest to the query.
    orders: of the images, for all who look at these distances; without tracks as far as is listed.
    """

    def __init__(
        self,
        q_pids: np.ndarray,
        g_pids: np.ndarray,
        matches: Matches,
        *,
        distance: str = COSINE,
        tracks: Tracks | None = None,
    ) -> None:
        self.q_pids, self.g_pids, self.matches = q_pids, g_pids, matches
        self.distance, self.tracks = distance, tracks
        hidden = matches.sizes()[1]
        ranked = len(g_pids if tracks is None else tracks)
        places = min(TOP + min(int(hidden.max(initial=0)), SHOWN_JUNK), ranked)
        self.indices = np.full((len(q_pids), places), -1, np.int32)
        self.similarities = np.full(self.indices.shape, np.nan, np.float32)
        self.orders = Orders(matches, places)
        self.correct = np.zeros(self.indices.shape, bool)
        self.junk = np.zeros(self.indices.shape, bool)

    def watch(self, chunks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Pass on chunks of squared distances (n, G), for the cosine between unit vectors."""
        for start, chunk in chunks:
            for first, piece in pieces(start, chunk):
                self._note(first, piece)
            yield start, chunk

    def _note(self, first: int, piece: np.ndarray) -> None:
        rows = slice(first, first + len(piece))
        chosen = self._nearest(first, piece)
        near = np.take_along_axis(piece, chosen, axis=1)
        queries = np.arange(first, first + len(piece))[:, None]
        self.indices[rows] = chosen
        self.similarities[rows] = similarities(near, self.distance)
        self.junk[rows] = self.matches.hides(queries, chosen)
        self.correct[rows] = self.g_pids[chosen] == self.q_pids[queries]
        self.correct[rows] &= ~self.junk[rows]

    def _nearest(self, first: int, piece: np.ndarray) -> np.ndarray:
        places = self.indices.shape[1]
        if self.tracks is None:
            return self.orders.of(first, piece).first(places)
        best = np.stack([self.tracks.nearest(row) for row in piece])
        shown = nearest(np.take_along_axis(piece, best, axis=1), places)
        return np.take_along_axis(best, shown, axis=1)

    def nearest(self) -> np.ndarray:
        """(Q,) int64: gallery index of each query's first rank that counts; -1 where all that is
        kept is hidden.
        """
        seen = (self.indices >= 0) & ~self.junk
        place = seen.argmax(axis=1)
        found = self.indices[np.arange(len(place)), place]
        return np.where(seen.any(axis=1), found, -1).astype(np.int64)

    def write(
        self,
        path: Path,
        query_keys: Sequence[str],
        gallery_keys: Sequence[str],
        metrics: RetrievalMetrics,
    ) -> None:
        """Write an npz: query_keys (Q,), gallery_keys (G,) str; indices (Q, K) int32 into the
        gallery; similarities (Q, K), the cosine or minus the Euclidean distance; correct, junk
        (Q, K) bool; ap, valid, inp, first (Q,) as in ``RetrievalMetrics``; pids (Q,) int64 of the
        queries.
        """
        arrays = {
            "query_keys": np.array(query_keys),
            "gallery_keys": np.array(gallery_keys),
            "indices": self.indices,
            "similarities": self.similarities,
            "correct": self.correct,
            "junk": self.junk,
            "ap": metrics.ap,
            "valid": metrics.valid,
            "inp": metrics.inp,
            "first": metrics.first,
            "pids": self.q_pids.astype(np.int64),
        }
        write_arrays(path, arrays, plain=("indices", "similarities"))


# Of each array the kinds of its type and its axes.
_ARRAYS = {
    "query_keys": ("U", 1), "gallery_keys": ("U", 1), "indices": ("i", 2), "similarities": ("f", 2),
    "correct": ("b", 2), "junk": ("b", 2), "ap": ("f", 1), "valid": ("b", 1), "inp": ("f", 1),
    "first": ("i", 1), "pids": ("i", 1),
}  # fmt: skip


@dataclass(frozen=True)
class StoredRanking:
    """What ``RankingRecorder.write`` wrote; fields as there. Those with a default are missing from
    evaluations of older versions.
    """

    query_keys: np.ndarray
    gallery_keys: np.ndarray
    indices: np.ndarray
    similarities: np.ndarray
    correct: np.ndarray
    junk: np.ndarray
    ap: np.ndarray
    valid: np.ndarray
    inp: np.ndarray | None = None
    first: np.ndarray | None = None
    pids: np.ndarray | None = None

    @classmethod
    def read(cls, path: Path) -> StoredRanking:
        """Read an npz; ReidpipeError when there is none, DamagedFile for one of something else."""
        if not path.is_file():
            raise ReidpipeError(f"found no ranking at {path}; expected one; type reidpipe eval")
        found = read_arrays(path, _ARRAYS)
        lacking = [f.name for f in fields(cls) if f.default is MISSING and f.name not in found]
        queries, gallery = (len(found.get(f"{of}_keys", ())) for of in ("query", "gallery"))
        others = [name for name, values in found.items()
                  if name != "gallery_keys" and len(values) != queries]  # fmt: skip
        ranked = [
            found[n].shape for n in ("indices", "similarities", "correct", "junk") if n in found
        ]
        indices = found.get("indices")
        outside = indices is not None and indices.size > 0 and not (
            indices.min() >= -1 and indices.max() < gallery
        )  # fmt: skip
        if lacking or others or len(set(ranked)) > 1 or outside:
            what = f"no {lacking[0]}" if lacking else "arrays that do not belong together"
            raise DamagedFile(
                f"found {what} in {path}; expected a ranking of {queries} queries; type reidpipe "
                "cache verify --repair, and then reidpipe eval"
            )
        return cls(**found)

    def __len__(self) -> int:
        return len(self.query_keys)
