"""Is one run better than another beyond noise? Tests between the runs of a page, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reid_train.evaluation.statistics.differences import Contender, differences
from reid_train.figures.page.views import RunView


@dataclass(frozen=True)
class Pair:
    """Two runs, the one of higher mAP first, and ``found``: rows of ``differences`` by measure."""

    better: str
    worse: str
    found: Mapping[str, Mapping[str, Any]]

    @property
    def tested(self) -> bool:
        """Whether they could be compared."""
        return self.found["mAP"]["p"] is not None

    @property
    def beyond(self) -> bool:
        """Whether their mAP differs beyond noise."""
        return bool(self.found["mAP"]["beyond_noise"])

    @property
    def sentence(self) -> str:
        """Which is better by how much, or that nobody can say."""
        row = self.found["mAP"]
        points, p = f"{100 * row['difference']:.1f}", told(row["p_corrected"])
        if row["comparisons"] > 1:
            p += f", corrected for {row['comparisons']} comparisons"
        low, high = (100 * end for end in row["interval"])
        if self.beyond:
            return (
                f"{self.better} is better than {self.worse} by {points} points of mAP "
                f"({low:.1f} to {high:.1f}), beyond noise ({p})."
            )
        return (
            f"{self.better} and {self.worse} cannot be told apart: mAP differs by {points} points "
            f"({low:.1f} to {high:.1f}), within noise ({p})."
        )


def pairs(views: Sequence[RunView]) -> list[Pair]:
    """Every pair of runs that was looked at (``differences``); of one question alone."""
    rows = differences([Contender(view.name, {0: view.evaluation}) for view in views])
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        found.setdefault((row["better"], row["worse"]), {}).setdefault(row["measure"], row)
    return [Pair(better, worse, by_measure) for (better, worse), by_measure in found.items()]


def foremost(tested: Sequence[Pair], views: Sequence[RunView]) -> list[Pair]:
    """What the first screen says: the best run against the next, and against the first of the page,
    which people compare with.
    """
    order = [view.name for view in sorted(views, key=lambda view: -view.metrics["mAP"])]
    asked = [(order[0], other) for other in (*order[1:2], views[0].name)]
    return [pair for pair in tested if pair.tested and (pair.better, pair.worse) in asked]


def notes(tested: Sequence[Pair]) -> list[str]:
    """What the tests are, and why a pair was not tested."""
    rows = [pair.found["mAP"] for pair in tested]
    lines = list(dict.fromkeys(f"Not compared: {row['why']}." for row in rows if row["p"] is None))
    for people, comparisons in dict.fromkeys(
        (row["people"], row["comparisons"]) for row in rows if row["p"] is not None
    ):
        corrected = f", p after Holm for {comparisons} comparisons" if comparisons > 1 else ""
        lines.append(
            f"In points; paired over {people} identities, 95 % intervals of each pair alone"
            f"{corrected}; noise above p = 0.05. It is about these very models on other queries: "
            "training again with another seed differs too (reidpipe run with several --seed)."
        )
    return lines


def told(p: float) -> str:
    """A p value as people write it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
