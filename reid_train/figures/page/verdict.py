"""Is one run better than another beyond noise? Paired tests between all runs of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from reid_train.evaluation.statistics.paired import LEVEL, Difference, between_runs, holm
from reid_train.evaluation.statistics.values import per_query
from reid_train.evaluation.stored_ranking import StoredRanking
from reid_train.figures.page.views import RunView

MEASURES = ("mAP", "Rank-1")


@dataclass(frozen=True)
class Pair:
    """Two runs; ``found``: of each of MEASURES the difference of the second to the first and its p,
    corrected for all pairs of the page (``holm``).
    """

    first: str
    second: str
    found: tuple[tuple[Difference, float], ...]

    @property
    def beyond(self) -> bool:
        """Whether their mAP differs beyond noise."""
        return self.found[0][1] <= LEVEL

    @property
    def sentence(self) -> str:
        """Which is better by how much, or that nobody can say."""
        difference, p = self.found[0]
        better, worse = (self.second, self.first)
        if difference.value < 0:
            better, worse = worse, better
        points = f"{100 * abs(difference.value):.1f}"
        if not self.beyond:
            return (
                f"{better} and {worse} cannot be told apart: mAP differs by {points} points, "
                f"within noise ({told(p)})."
            )
        low, high = sorted(100 * abs(end) for end in difference.interval)
        return (
            f"{better} is better than {worse} by {points} points of mAP "
            f"({low:.1f} to {high:.1f}), beyond noise ({told(p)})."
        )


def pairs(views: Sequence[RunView]) -> tuple[list[Pair], str]:
    """All pairs of runs, and a sentence on the test; none, and why, where they cannot be compared
    query by query.
    """
    if len(views) < 2:
        return [], ""
    if len({view.question for view in views}) > 1:
        return [], "Runs that answer different questions are not tested against each other."
    if any(view.protocol["trials"] > 1 for view in views):
        return [], "Not tested against each other: several trials are averaged."
    rankings = [view.ranking for view in views]
    if any(ranking.pids is None for ranking in rankings):
        return [], "Not tested against each other: evaluated by an older version."
    first = rankings[0]
    if any(not np.array_equal(other.query_keys, first.query_keys) for other in rankings):
        return [], "Not tested against each other: their queries differ."
    chosen = list(combinations(range(len(views)), 2))
    tested = [_tested(rankings[a], rankings[b]) for a, b in chosen]
    if any(found is None for found in tested):
        return [], "Not tested against each other: the queries that count are of a single person."
    differences = [found for found in tested if found is not None]
    corrected = [holm([found[m].p for found in differences]) for m in range(len(MEASURES))]
    listed = [
        Pair(
            views[a].name,
            views[b].name,
            tuple((found[m], corrected[m][n]) for m in range(len(MEASURES))),
        )
        for n, ((a, b), found) in enumerate(zip(chosen, differences, strict=True))
    ]
    several = f", corrected for {len(chosen)} comparisons (Holm)" if len(chosen) > 1 else ""
    return listed, (
        f"In points, with {100 * (1 - LEVEL):g} % intervals of single comparisons; p by sign flips "
        f"over identities, two-sided{several}. They speak of these two models on other queries "
        "like these; training again with another seed differs too: reidpipe run with several "
        "--seed."
    )


def _tested(first: StoredRanking, second: StoredRanking) -> list[Difference] | None:
    """The second less the first, of each of MEASURES; None for a single person."""
    before, after = (_values(ranking) for ranking in (first, second))
    apart = after - before
    known = ~np.isnan(apart).any(axis=1)
    assert first.pids is not None
    names, codes = np.unique(first.pids[known], return_inverse=True)
    if len(names) < 2:
        return None
    counts = np.bincount(codes).astype(np.float64)
    return [between_runs(np.bincount(codes, weights=column), counts) for column in apart[known].T]


def _values(ranking: StoredRanking) -> np.ndarray:
    assert ranking.inp is not None and ranking.first is not None
    return per_query(ranking.ap, ranking.inp, ranking.first, ranking.valid, MEASURES)


def told(p: float) -> str:
    """A p value as people write it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
