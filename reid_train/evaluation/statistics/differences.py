"""Which of several evaluated runs or recipes differ beyond noise, as rows and as lines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.checked import read_json
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from reid_train.evaluation.statistics.paired import LEVEL, between_recipes, holm
from reid_train.evaluation.statistics.seeds import over_seeds
from reid_train.evaluation.statistics.values import per_query
from reid_train.evaluation.stored_ranking import StoredRanking

COMPARED = ("mAP", "Rank-1")
TOLD_SEEDS = 3  # from how many on the test over seeds alone is told
ALL_PAIRS = 4  # contenders up to whom each is compared with each, else all with the best


@dataclass(frozen=True)
class Contender:
    """One run, or one recipe. name: shown. folders: its evaluations by seed; a run is its own
    recipe with a single seed, whatever that is called.
    """

    name: str
    folders: Mapping[int, Path]

    @cached_property
    def ground(self) -> tuple[Any, ...]:
        """What has to be equal for two to be compared: the same queries under the same rules."""
        folder = next(iter(self.folders.values()))
        about, metrics = read_json(folder / "protocol.json"), read_json(folder / "metrics.json")
        return (
            metrics["dataset"], metrics["protocol"], about.get("exclude"),
            about["inputs"]["index"], about.get("trials"),
        )  # fmt: skip

    @cached_property
    def rankings(self) -> dict[int, StoredRanking]:
        """Per seed what is stored of each query."""
        return {
            seed: StoredRanking.read(folder / "ranking.npz")
            for seed, folder in self.folders.items()
        }

    @property
    def average(self) -> float:
        """The mean mAP over seeds."""
        found = [read_json(folder / "metrics.json")["mAP"] for folder in self.folders.values()]
        return float(np.mean(found))


def compared(workspace: Workspace, evaluations: Sequence[Step], names: Sequence[str]) -> list[str]:
    """Lines for people on the differences between finished evaluations of several runs."""
    return lines(differences(of_runs(workspace, evaluations, names)))


def of_runs(
    workspace: Workspace, evaluations: Sequence[Step], names: Sequence[str]
) -> list[Contender]:
    """Each evaluation as a contender of its own, for ``differences``."""
    return [
        Contender(name, {0: workspace.folder(step)})
        for name, step in zip(names, evaluations, strict=True)
    ]


def differences(
    contenders: Sequence[Contender], asked: Collection[frozenset[str]] | None = None
) -> list[dict[str, Any]]:
    """One row per compared pair and measure; only contenders of equal ``ground`` are compared.
    asked: pairs of names; None: all of few contenders, of many each with the best.

    The one with the higher mAP comes first, as ``better``, the other as ``worse``. difference,
    interval: fractions, better minus worse, the interval of this pair alone; p: of this pair alone;
    p_corrected: by Holm for the ``comparisons`` of the same measure on the same ground. people,
    seeds: over how many. beyond_noise: whether p_corrected is at most .05. over_seeds: the same
    pair over seeds alone (``statistics.seeds``), its p corrected in the same way; None of a single
    seed. Where a pair cannot be compared these are None, and ``why`` says why.
    """
    grounds: dict[tuple[Any, ...], list[Contender]] = {}
    for contender in contenders:
        grounds.setdefault(contender.ground, []).append(contender)
    rows = []
    for ground, members in grounds.items():
        ranked = sorted(members, key=lambda member: -member.average)
        pairs = list(combinations(ranked, 2))
        if asked is not None:
            pairs = [pair for pair in pairs if frozenset(each.name for each in pair) in asked]
        elif len(ranked) > ALL_PAIRS:
            pairs = [(ranked[0], other) for other in ranked[1:]]
        for measure in COMPARED:
            found = [_row(better, worse, measure, ground) for better, worse in pairs]
            tested = [row for row in found if row["p"] is not None]
            for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
                row |= {
                    "p_corrected": p, "comparisons": len(tested), "beyond_noise": p <= LEVEL,
                }  # fmt: skip
            again = [row["over_seeds"] for row in tested if row["over_seeds"] is not None]
            for row, p in zip(again, holm([row["p"] for row in again]), strict=True):
                row["p_corrected"] = _rounded(p)
            rows += found
    return rows


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What ``differences`` found, in percent: a heading per kind of test, a line per pair."""
    pairs: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        pairs.setdefault((row["dataset"], row["protocol"], row["better"], row["worse"]), []).append(
            row
        )
    told: dict[str, list[str]] = {}
    again: dict[str, list[str]] = {}
    for members in pairs.values():
        first = members[0]
        over = f"{first['better']} over {first['worse']}"
        if first["p"] is None:
            told.setdefault(f"not compared: {first['why']}", []).append(f"  {over}")
            continue
        text = "; ".join(_measure(row) for row in members)
        told.setdefault(_heading(first), []).append(f"  {over}: {text}")
        if first["seeds"] >= TOLD_SEEDS:
            text = "; ".join(_over_seeds(row) for row in members)
            again.setdefault(_seeds_heading(first), []).append(f"  {over}: {text}")
    both = [*told.items(), *again.items()]
    return [line for heading, listed in both for line in (heading, *listed)]


def _row(
    better: Contender, worse: Contender, measure: str, ground: tuple[Any, ...]
) -> dict[str, Any]:
    row = {
        "dataset": ground[0], "protocol": ground[1], "better": better.name, "worse": worse.name,
        "measure": measure, "difference": None, "interval": None, "p": None, "p_corrected": None,
        "comparisons": 0, "people": None, "seeds": None, "beyond_noise": None, "over_seeds": None,
    }  # fmt: skip
    seeds = [seed for seed in better.folders if seed in worse.folders]
    why = _incomparable(better, worse, seeds, ground)
    if why is not None:
        return {**row, "why": why}
    both = [(better.rankings[seed], worse.rankings[seed]) for seed in seeds]
    one, other = (
        np.stack([_column(pair[side], measure) for pair in both]) for side in (0, 1)
    )  # seeds, queries
    known = ~np.isnan(one).any(axis=0) & ~np.isnan(other).any(axis=0)
    pids = both[0][0].pids
    assert pids is not None
    people, codes = np.unique(pids[known], return_inverse=True)
    apart = np.stack(
        [
            np.bincount(codes, weights=values, minlength=len(people))
            for values in (one - other)[:, known]
        ]
    )
    counts = np.bincount(codes).astype(np.float64)
    found = between_recipes(apart, counts)
    again = over_seeds(apart.sum(axis=1) / counts.sum())
    return row | {
        "difference": _rounded(found.value),
        "interval": [_rounded(end) for end in found.interval],
        "p": _rounded(found.p),
        "people": len(people),
        "seeds": len(seeds),
        "over_seeds": again and {
            "interval": [_rounded(end) for end in again.interval],
            "p": _rounded(again.p),
            "sees": _rounded(again.sees),
        },
    }  # fmt: skip


def _incomparable(
    better: Contender, worse: Contender, seeds: Sequence[int], ground: tuple[Any, ...]
) -> str | None:
    if not seeds:
        return "no seed in common"
    if ground[-1] > 1:
        return "several trials are averaged, of which single queries are not stored"
    stored = [ranking for side in (better, worse) for ranking in side.rankings.values()]
    if any(ranking.pids is None or ranking.first is None for ranking in stored):
        return "evaluated by an older version; type reidpipe eval again"
    keys = stored[0].query_keys
    if any(not np.array_equal(ranking.query_keys, keys) for ranking in stored[1:]):
        return "other queries"
    return None


def _column(ranking: StoredRanking, measure: str) -> np.ndarray:
    first = ranking.first
    assert first is not None
    unused = np.full(len(ranking), np.nan)
    return per_query(ranking.ap, unused, first, ranking.valid, (measure,))[:, 0]


def _heading(row: Mapping[str, Any]) -> str:
    over = f"{row['people']} people"
    if row["seeds"] > 1:
        over += f" and {row['seeds']} seeds"
    corrected = ""
    if row["comparisons"] > 1:
        corrected = f", p after Holm for {row['comparisons']} comparisons"
    return (
        f"differences on {row['dataset']}, protocol {row['protocol']}, paired over {over}, 95 % "
        f"intervals of each pair alone{corrected}; noise above p .05:"
    )


def _seeds_heading(row: Mapping[str, Any]) -> str:
    corrected = f", p after Holm for {row['comparisons']}" if row["comparisons"] > 1 else ""
    return (
        f"the same on {row['dataset']} over {row['seeds']} seeds alone, these people (paired "
        f"t{corrected}; from what difference on as many seeds find it with chance .8):"
    )


def _measure(row: Mapping[str, Any]) -> str:
    verdict = "beyond noise" if row["beyond_noise"] else "within noise"
    return f"{_found(row, row)}, {verdict}"


def _over_seeds(row: Mapping[str, Any]) -> str:
    return f"{_found(row, row['over_seeds'])}, from {100 * row['over_seeds']['sees']:.1f} on"


def _found(row: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in test["interval"])
    p = test["p_corrected"]
    told = "p < .001" if p < 0.001 else f"p {p:.3f}".replace("0.", ".")
    return f"{row['measure']} {100 * row['difference']:+.1f} [{low:.1f}, {high:.1f}], {told}"


def _rounded(value: float) -> float:
    return round(value, 6)
