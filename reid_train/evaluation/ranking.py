"""The nearest gallery images, without sorting the gallery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid_train.evaluation.distances import Distances
from reid_train.evaluation.embeddings import Embeddings
from reid_train.evaluation.exclusion import Matches


def nearest_first(row: np.ndarray, k: int, excluded: np.ndarray | None = None) -> np.ndarray:
    """Indices of the k smallest distances of ``row`` (G,), nearest first, ties by index.

    Fewer than k when fewer remain after leaving out ``excluded``.
    """
    left = len(row) - (0 if excluded is None else len(excluded))
    if excluded is not None and len(excluded):
        keep = np.ones(len(row), bool)
        keep[excluded] = False
        candidates = np.flatnonzero(keep)
    else:
        candidates = None
    values = row if candidates is None else row[candidates]
    if k < left:
        # The k-th smallest value, then all that are not above it: a stable choice among ties.
        limit = np.partition(values, k - 1)[k - 1]
        chosen = np.flatnonzero(values <= limit)
    else:
        chosen = np.arange(left)
    chosen = chosen[np.argsort(values[chosen], kind="stable")][:k]
    return chosen if candidates is None else candidates[chosen]


@dataclass(frozen=True)
class Ranking:
    """The best k gallery images of each query.

    indices: (Q, k) int64 gallery indices, nearest first, -1 where fewer than k remain.
    distances: (Q, k) float32 squared Euclidean, infinite there.
    """

    indices: np.ndarray
    distances: np.ndarray


def rank(
    query: Embeddings,
    gallery: Embeddings,
    k: int = 50,
    *,
    normalise: bool = True,
    exclude: str = "same-camera",
    memory_mib: float = 1024,
) -> Ranking:
    """The k nearest gallery images of each query that ``exclude`` leaves in.

    Arguments as in ``evaluate``; equal distances rank by ascending gallery index.
    """
    matches = match_rule(query, gallery, exclude)
    k = min(k, len(gallery))
    indices = np.full((len(query), k), -1, np.int64)
    values = np.full((len(query), k), np.inf, np.float32)
    distances = Distances(
        query.features, gallery.features, normalise=normalise, memory_mib=memory_mib
    )
    for start, chunk in distances.chunks():
        for place, row in enumerate(chunk, start):
            fill_ranking(indices[place], values[place], row, matches.of(place)[1])
    return Ranking(indices, values)


def fill_ranking(
    indices: np.ndarray, values: np.ndarray, row: np.ndarray, excluded: np.ndarray
) -> None:
    """Write the nearest images of one distance row (G,) into the (k,) rows of a ranking."""
    chosen = nearest_first(row, len(indices), excluded)
    indices[: len(chosen)] = chosen
    values[: len(chosen)] = np.maximum(row[chosen], 0)


def match_rule(query: Embeddings, gallery: Embeddings, exclude: str) -> Matches:
    """The exclusion rule for two sets of embeddings."""
    return Matches.build(
        exclude,
        q_pids=query.pids, g_pids=gallery.pids,
        q_camids=query.camids, g_camids=gallery.camids,
        q_keys=query.keys, g_keys=gallery.keys,
        q_clothes=query.clothes, g_clothes=gallery.clothes,
    )  # fmt: skip
