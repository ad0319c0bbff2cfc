"""From the outcome of every query to ``statistics.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from reid_train.evaluation.metrics import RetrievalMetrics
from reid_train.evaluation.statistics.cameras import CameraFigures
from reid_train.evaluation.statistics.resampling import (
    DRAWS,
    LEVEL,
    Sums,
    intervals,
    rising,
)
from reid_train.evaluation.statistics.roc import roc
from reid_train.evaluation.statistics.stored import (
    MEASURES,
    CameraPair,
    Cmc,
    Confusion,
    Intervals,
    Resampling,
    StoredStatistics,
)
from reid_train.evaluation.statistics.values import per_query
from reid_train.evaluation.threshold import PairStatistics

SHOWN = 50  # confusions
MOST_PAIRS = 400  # of cameras, with an interval
BLOCK = 16  # of them at a time
ONE_PERSON = "the queries that count are of a single person: there is nobody to draw"
TRIALS = "several trials are averaged, and it would be of one of them"


@dataclass(frozen=True)
class Scored:
    """One trial: its metrics, the people of its queries (Q,) int, and what a random ranking gives
    (``chance_map``).
    """

    metrics: RetrievalMetrics
    pids: np.ndarray
    chance: float


@dataclass(frozen=True)
class Found:
    """What was noted while the first trial's distances passed by.

    pairs: for the ROC curve. taken_for: (Q,) int person of the image at rank 1, -1 where it was not
    kept. cameras: None where
    no camera is known; camids: (Q,) int cameras of the queries, -1 where not known. notes: to be
    told in ``why``.
    """

    pairs: PairStatistics
    taken_for: np.ndarray
    cameras: CameraFigures | None
    camids: np.ndarray
    notes: dict[str, str] = field(default_factory=dict)


def summarise(trials: Sequence[Scored], found: Found) -> StoredStatistics:
    """All that is known of how sure the figures are. Equal outcomes give equal statistics.

    Over several trials a person is drawn with the queries of all of them, and a query counts by
    the inverse of its trial's number: the figure is the mean over trials. What depends on single
    images is then left out; ROC and threshold are of the first trial.
    """
    why, single = dict(found.notes), len(trials) == 1
    sums = people_sums(trials)
    over_people = named_intervals(sums, MEASURES, name="identities")
    if over_people is None:
        why["intervals"] = ONE_PERSON
    curve = cmc(trials)
    if over_people is not None and curve.low is not None and curve.high is not None:
        for place, rank in enumerate(curve.rank):
            if f"Rank-{rank}" in over_people:
                over_people[f"Rank-{rank}"] = [curve.low[place], curve.high[place]]
    over_queries = None
    if single:
        values = _values(trials[0].metrics, MEASURES)
        alone = Sums.of(values, np.arange(len(values)))
        over_queries = named_intervals(alone, MEASURES, name="queries")
        if over_queries is None:
            why["intervals_over_queries"] = "a single query counts: there is nothing to draw"
    else:
        why["intervals_over_queries"] = (
            "several trials rank the same images: their queries are no independent draws"
        )
    rates, at, missing = roc(found.pairs)
    pairs, confused = None, None
    if not single:
        why["camera_pairs"] = why["confusions"] = TRIALS
    else:
        confused = confusions(trials[0], found.taken_for)
        if found.cameras is None:
            why["camera_pairs"] = "no camera is known"
        else:
            pairs = camera_pairs(found.cameras, found.camids, trials[0].pids)
            if len(pairs) > MOST_PAIRS:
                why["camera_pairs.intervals"] = f"more than {MOST_PAIRS} pairs of cameras"
    return StoredStatistics(
        resampling=Resampling(draws=DRAWS, level=LEVEL, people=len(sums)),
        intervals=over_people,
        intervals_over_queries=over_queries,
        cmc=curve,
        roc=rates,
        tpr_at_fpr=at,
        camera_pairs=pairs,
        confusions=confused,
        chance={"mAP": float(np.mean([trial.chance for trial in trials]))},
        why=why | missing,
    )


def people_sums(trials: Sequence[Scored], measures: Sequence[str] = MEASURES) -> Sums:
    """Per person the sums of ``measures`` over the queries of all trials."""
    blocks = [_values(trial.metrics, measures) for trial in trials]
    weights = [
        np.full(len(trial.pids), 1 / (len(trials) * max(1, trial.metrics.valid.sum())))
        for trial in trials
    ]
    people = np.concatenate([trial.pids for trial in trials])
    # One trial counts by ones, whose sums are exact.
    weighted = None if len(trials) == 1 else np.concatenate(weights)
    return Sums.of(np.concatenate(blocks), people, weighted)


def named_intervals(sums: Sums, measures: Sequence[str], *, name: str) -> Intervals | None:
    """The intervals by measure; without those that have none, None where no measure has one."""
    return _named(intervals(sums, name=name), measures)


def _named(ends: np.ndarray, measures: Sequence[str]) -> Intervals | None:
    listed = {
        measure: _rounded(pair)
        for measure, pair in zip(measures, ends.T, strict=True)
        if not np.isnan(pair).any()
    }
    return listed or None


def cmc(trials: Sequence[Scored]) -> Cmc:
    """The curve to the last rank that metrics have, each rank with its own interval; what is known
    at one rank holds for later ones (``rising``).
    """
    value = np.mean([trial.metrics.cmc for trial in trials], axis=0)
    ranks = list(range(1, len(value) + 1))
    measures = [f"Rank-{rank}" for rank in ranks]
    ends = rising(intervals(people_sums(trials, measures), name="identities"))
    sure = not np.isnan(ends).any()
    low, high = (_rounded(column) if sure else None for column in ends)
    return Cmc(rank=ranks, value=_rounded(value), low=low, high=high)


def camera_pairs(figures: CameraFigures, camids: np.ndarray, pids: np.ndarray) -> list[CameraPair]:
    """By query camera and gallery camera: figures over the queries with a right match there, and
    intervals over their people (none for a single one), all from the same draws of people. camids,
    pids: (Q,) of the queries.
    """
    known = camids[figures.query] >= 0
    query, gallery = camids[figures.query][known], figures.camera[known]
    values = np.stack([figures.ap, figures.first < 1], axis=1)[known].astype(np.float64)
    people = pids[figures.query][known]
    cells, codes = np.unique(np.stack([query, gallery], axis=1), axis=0, return_inverse=True)
    codes, names = codes.ravel(), ("mAP", "Rank-1")
    queries = np.bincount(codes, minlength=len(cells))
    rows = []
    for start in range(0, len(cells), BLOCK):
        inside = (codes >= start) & (codes < start + BLOCK)
        columns = codes[inside] - start
        wide = np.full((len(columns), min(BLOCK, len(cells) - start), 2), np.nan)
        wide[np.arange(len(columns)), columns] = values[inside]
        sums = Sums.of(wide.reshape(len(columns), -1), people[inside])
        figure = sums.ratio.reshape(-1, 2)
        ends = np.full((2, *figure.shape), np.nan)
        if len(cells) <= MOST_PAIRS:
            ends = intervals(sums, name="cameras").reshape(2, -1, 2)
        for place, (one, other) in enumerate(cells[start : start + BLOCK].tolist()):
            rows.append(
                CameraPair(
                    query=one,
                    gallery=other,
                    queries=int(queries[start + place]),
                    mAP=float(figure[place, 0]),
                    rank1=float(figure[place, 1]),
                    intervals=_named(ends[:, place], names),
                )
            )
    return rows


def confusions(trial: Scored, taken_for: np.ndarray) -> list[Confusion]:
    """Who was taken for whom at rank 1, most often first, then by their numbers; SHOWN at most."""
    wrong = trial.metrics.valid & (trial.metrics.first != 0) & (taken_for >= 0)
    pairs = zip(trial.pids[wrong].tolist(), taken_for[wrong].tolist(), strict=True)
    listed = sorted(Counter(pairs).items(), key=lambda item: (-item[1], item[0]))
    return [Confusion(pid=pid, taken_for=whom, queries=n) for (pid, whom), n in listed[:SHOWN]]


def _values(metrics: RetrievalMetrics, measures: Sequence[str]) -> np.ndarray:
    return per_query(metrics.ap, metrics.inp, metrics.first, metrics.valid, measures)


def _rounded(values: np.ndarray) -> list[float]:
    """Six decimals: below them sums depend on the order in which a processor adds."""
    return [round(float(value), 6) for value in values]
