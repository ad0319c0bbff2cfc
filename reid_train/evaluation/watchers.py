"""What is noted about distances while they are scored: ranking, pairs, cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reid_train.evaluation.distances import Distances
from reid_train.evaluation.embeddings import Embeddings
from reid_train.evaluation.exclusion import Matches
from reid_train.evaluation.order import Orders
from reid_train.evaluation.ranking import match_rule
from reid_train.evaluation.statistics.cameras import CameraRanks
from reid_train.evaluation.statistics.summary import Found
from reid_train.evaluation.stored_ranking import RankingRecorder
from reid_train.evaluation.threshold import PairStatistics
from reid_train.evaluation.tracks import Tracks
from reid_train.models import COSINE


@dataclass(frozen=True)
class Watchers:
    """Everything that sees each chunk of distances before it is scored. tracks: where the gallery
    is of tracks. cameras: None where no gallery camera is known. q_camids: (Q,) int, -1 where not
    known. counted: whether ``pairs`` has counted already.
    """

    pairs: PairStatistics
    ranking: RankingRecorder
    tracks: Tracks | None
    cameras: CameraRanks | None
    orders: Orders
    q_camids: np.ndarray
    counted: bool

    @classmethod
    def of(
        cls,
        query: Embeddings,
        gallery: Embeddings,
        exclude: str,
        distance: str,
        *,
        matches: Matches,
        tracks: Tracks | None = None,
        bare: tuple[Embeddings, Embeddings] | None = None,
        about: dict[str, Any] | None = None,
        cameras: Sequence[np.ndarray] | None = None,
    ) -> Watchers:
        """matches: of what is ranked, images or tracks. bare: both sides without a model's table,
        for the threshold, and counted at once; None where they are those that are scored. cameras:
        of query (Q,) and gallery images (G,), int, -1 where not known; None leaves them out.
        """
        images = matches if tracks is None else match_rule(query, gallery, exclude)
        recorder = RankingRecorder(
            query.pids, gallery.pids, images, distance=distance, tracks=tracks
        )
        farthest = 0.0 if distance == COSINE else _farthest(bare or (query, gallery))
        pairs = PairStatistics(
            images, query.pids, gallery.pids, distance=distance, farthest=farthest, about=about
        )
        for _ in pairs.watch(distances_between(*bare, distance).chunks()) if bare else ():
            pass
        orders = recorder.orders if tracks is None else Orders(matches)
        ranks, asked = None, np.full(len(query), -1)
        if cameras is not None and (cameras[1] >= 0).any():
            asked, taken = cameras
            first = slice(None) if tracks is None else tracks.order[tracks.starts]
            ranks = CameraRanks(orders, taken[first])
        return cls(pairs, recorder, tracks, ranks, orders, asked, bare is not None)

    def watch(self, chunks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Chunks of squared distances (n, G) to images; passed on are those to what is ranked."""
        chunks = self.ranking.watch(chunks if self.counted else self.pairs.watch(chunks))
        if self.tracks is not None:
            chunks = self.tracks.watch(chunks)
        return chunks if self.cameras is None else self.cameras.watch(chunks)

    def found(self) -> Found:
        """For ``summarise``, once all chunks have passed."""
        notes = {}
        if self.counted:
            notes["roc"] = "of the model without its table of cameras or views, as the threshold"
        if self.cameras is not None and not (
            (self.q_camids >= 0).all() and self.cameras.known.all()
        ):
            notes["camera_pairs"] = "images without a camera are in no pair"
        nearest = self.ranking.nearest()
        return Found(
            pairs=self.pairs,
            taken_for=np.where(nearest >= 0, self.ranking.g_pids[nearest], -1),
            cameras=None if self.cameras is None else self.cameras.figures(),
            camids=self.q_camids,
            notes=notes,
        )


def distances_between(query: Embeddings, gallery: Embeddings, distance: str) -> Distances:
    """Their distances, "cosine" (between unit vectors) or "euclidean", in bounded memory."""
    normalise = distance == COSINE
    return Distances(query.features, gallery.features, normalise=normalise, memory_mib=1024)


def _farthest(sides: Sequence[Embeddings]) -> float:
    """What no Euclidean distance between two sides is above: the sum of their longest features."""
    squares = (
        np.einsum("nd,nd->n", side.features, side.features, dtype=np.float64) for side in sides
    )
    return float(sum(np.sqrt(found.max()) for found in squares))
