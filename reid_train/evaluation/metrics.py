"""CMC, mAP and mINP, exact, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.distances import Distances
from reid_train.evaluation.embeddings import Embeddings, to_numpy
from reid_train.evaluation.exclusion import Matches
from reid_train.evaluation.order import Order, Orders, pieces
from reid_train.evaluation.ranking import match_rule


@dataclass(frozen=True)
class RetrievalMetrics:
    """Results over the queries that have at least one right match in the gallery.

    cmc: (max_rank,) float64, cmc[r-1] = share of valid queries whose first right match has rank
    <= r, or, where people are counted, before whose first right match fewer than r other people
    come; longer than the gallery it repeats its last value. mAP, mINP: float64 means over valid
    queries, which JSON takes as they are.
    ap: (Q,) float64 average precision, NaN where not valid. valid: (Q,) bool. All in 0..1.
    inp: (Q,) float64 inverse negative penalty, NaN where there is no right match. first: (Q,) int64
    0-based rank of the first right match (or people before it), -1 where not valid.
    """

    cmc: np.ndarray
    mAP: float
    mINP: float
    ap: np.ndarray
    valid: np.ndarray
    inp: np.ndarray = field(default_factory=lambda: np.empty(0))
    first: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


def evaluate(
    query: Embeddings,
    gallery: Embeddings,
    *,
    normalise: bool = True,
    exclude: str = "same-camera",
    max_rank: int = 50,
    memory_mib: float = 1024,
) -> RetrievalMetrics:
    """Rank the gallery for each query by squared Euclidean distance and score it.

    normalise: L2-normalise all features first. exclude: a rule of ``Matches``. memory_mib bounds
    what is allocated on top of the features.
    AP is the mean over right matches k = 1..P of k / rank_k (no trapezoid, as in all Python
    evaluators of the field); INP = P / rank of the last right match (Ye et al., AGW, 2021).
    Equal distances rank by ascending gallery index; the published evaluators use an unstable
    sort there and disagree among themselves.
    Raises ValueError when no query has a right match, ReidpipeError for unusable input.
    """
    matches = match_rule(query, gallery, exclude)
    distances = Distances(
        query.features, gallery.features, normalise=normalise, memory_mib=memory_mib
    )
    return score(distances.chunks(), len(query), matches, max_rank)


def evaluate_distances(
    dist: Any,
    q_pids: Any,
    g_pids: Any,
    q_camids: Any,
    g_camids: Any,
    *,
    exclude: str = "same-camera",
    max_rank: int = 50,
    q_keys: Any = None,
    g_keys: Any = None,
) -> RetrievalMetrics:
    """Score a given (Q, G) matrix of distances, smaller is nearer; ranks are exact for it.

    Other arguments and errors as in ``evaluate``; camids may be None for rules that need none.
    ``dist`` is left unchanged.
    """
    dist = to_numpy(dist)
    if dist.dtype.kind not in "fiu":
        try:
            dist = dist.astype(np.float64)
        except (TypeError, ValueError):
            raise ReidpipeError(f"found distances of {dist.dtype}; expected numbers") from None
    expected = (len(q_pids), len(g_pids))
    if dist.shape != expected:
        raise ReidpipeError(f"found distances of shape {dist.shape}; expected {expected}")
    # Checked as embeddings without features.
    query, gallery = (
        Embeddings(np.empty((len(pids), 0)), pids, camids, keys)
        for pids, camids, keys in ((q_pids, q_camids, q_keys), (g_pids, g_camids, g_keys))
    )
    return score([(0, dist)], len(dist), match_rule(query, gallery, exclude), max_rank)


def score(
    chunks: Iterable[tuple[int, np.ndarray]],
    queries: int,
    matches: Matches,
    max_rank: int,
    people: np.ndarray | None = None,
    orders: Orders | None = None,
) -> RetrievalMetrics:
    """Metrics from (first query, distances (n, G)) chunks that cover all queries.

    orders: of ``matches``, where others have looked at these chunks. people: identities (G,), for
    a CMC that counts other people and not their images; mAP and mINP count images all the same
    (SYSU-MM01, Wu et al., ICCV 2017).
    """
    if max_rank < 1:
        raise ReidpipeError(f"found max_rank={max_rank}; expected 1 at least")
    ap = np.full(queries, np.nan)
    inp = np.full(queries, np.nan)
    first = np.full(queries, -1, np.int64)
    orders = orders or Orders(matches)
    for start, piece in (part for chunk in chunks for part in pieces(*chunk)):
        order = orders.of(start, piece)
        query, found = order.ranks()
        if not len(found):
            continue
        begin = np.flatnonzero(np.diff(query, prepend=-1))
        end, asked = np.append(begin[1:], len(query)), query[begin]
        _refuse_nan(piece, order, asked, start)
        precision = (np.arange(1, len(found) + 1) - np.repeat(begin, end - begin)) / (found + 1)
        # Query by query: what reduces parts of an array at once rounds in another way.
        spans = zip(begin.tolist(), end.tolist(), strict=True)
        sums = [np.add.reduce(precision[one:beyond]) for one, beyond in spans]
        ap[start + asked] = np.array(sums) / (end - begin)
        inp[start + asked] = (end - begin) / (found[end - 1] + 1)
        first[start + asked] = found[begin]
        if people is not None:
            first[start + asked] = [_people_before(order, place, people) for place in asked]
    valid = ~np.isnan(ap)
    if not valid.any():
        raise ValueError(
            f"no valid query: none of the {queries} queries has a right match in the gallery "
            "after the exclusion rule"
        )
    hits = first[valid]
    counts = np.bincount(hits[hits < max_rank], minlength=max_rank)
    return RetrievalMetrics(
        cmc=np.cumsum(counts) / len(hits),
        mAP=np.float64(ap[valid].mean()),
        mINP=np.float64(inp[valid].mean()),
        ap=ap,
        valid=valid,
        inp=inp,
        first=first,
    )


def _people_before(order: Order, query: int, people: np.ndarray) -> int:
    """How many identities have an image before the first right one of a query."""
    part = slice(order.bounds[query], order.bounds[query + 1])
    before = slice(int(order.right[part].argmax()))
    seen = order.gallery[part][before][~order.hidden[part][before]]
    return len(np.unique(people[seen]))


def _refuse_nan(piece: np.ndarray, order: Order, asked: np.ndarray, start: int) -> None:
    """Raise ReidpipeError where one of the queries ``asked`` has a distance that is no number: the
    last of its order is.
    """
    last = piece[asked, order.gallery[order.bounds[asked + 1] - 1]]
    lost = asked[np.isnan(last)]
    if len(lost):
        raise ReidpipeError(
            f"found NaN distances for query {start + lost[0]}; expected numbers: "
            "the features are not finite, the model may have diverged"
        )
