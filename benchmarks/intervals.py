"""What intervals cover and how often the paired tests raise a false alarm, by simulation.

    OMP_NUM_THREADS=1 python -m benchmarks.intervals                # 2,000 draws, a few minutes
    OMP_NUM_THREADS=1 python -m benchmarks.intervals --draws 200

A person has queries whose difficulty is partly the person's own (intraclass correlation), unequal
numbers of them, at times more where they are harder; a query has 1 to 12 right images, and how many
of 5,000 wrong ones come before each is drawn by its score. AP, INP and Rank-1 follow. The truth is
the mean over the queries of a million people. None of the settings was used to choose the method.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from reid_train.evaluation import Embeddings, evaluate
from reid_train.evaluation.statistics.paired import between_recipes, between_runs
from reid_train.evaluation.statistics.resampling import Sums, intervals
from reid_train.evaluation.statistics.values import per_query

MEASURES = ("mAP", "mINP", "Rank-1")
WRONG, MOST_RIGHT = 5000, 12


@dataclass(frozen=True)
class Setting:
    """people: drawn each time. queries: of a person on average; spread: "equal", "even" (1 to twice
    the mean) or "long" (geometric). level: of the scores, higher is easier. own, each: standard
    deviations of difficulty between people and between one's queries. harder: how much harder those
    with many queries are.
    """

    people: int
    queries: int
    spread: str
    level: float
    own: float = 0.65
    each: float = 0.45
    harder: float = 0.0

    def counts(self, rng: np.random.Generator, people: int) -> np.ndarray:
        if self.spread == "equal":
            return np.full(people, self.queries)
        if self.spread == "even":
            return rng.integers(1, 2 * self.queries, people)
        return rng.geometric(1 / self.queries, people)


SETTINGS = {
    "100 people, strong (Market's shape)": Setting(100, 4, "even", 4.1),
    "100 people, middling": Setting(100, 4, "even", 3.4),
    "100 people, weak": Setting(100, 4, "even", 2.6),
    "120 people, long-tailed, the frequent harder": Setting(120, 5, "long", 3.7, harder=0.25),
    "150 people, 2 queries each": Setting(150, 2, "equal", 3.8),
    "250 people, strong, long-tailed": Setting(250, 6, "long", 4.2),
    "750 people, strong (Market's size)": Setting(750, 4, "even", 4.3),
}
EXTREMES = {
    "100 people, nearly all right": Setting(100, 4, "even", 5.2),
    "100 people, nearly all wrong": Setting(100, 4, "even", 1.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage of intervals, false alarms of tests")
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    started = time.process_time()
    print(f"coverage of 95 % intervals over people, % of {draws} draws; aim 93 to 97")
    for name, setting in (SETTINGS | EXTREMES).items():
        coverage(name, setting, draws)
    redrawn(draws)
    print(f"false alarms at level .05, % of {draws} pairs of equally good models; aim 3 to 7")
    for name, setting in SETTINGS.items():
        false_alarms(name, setting, draws)
    print("false alarms of recipes over seeds and people; aim at most 7")
    for seeds in (2, 3, 5):
        of_recipes(seeds, draws)
    print(f"{time.process_time() - started:.0f} CPU s")


def coverage(name: str, setting: Setting, draws: int) -> None:
    rng = np.random.default_rng([*name.encode()])
    truth = np.zeros((2, len(MEASURES)))
    for _ in range(50):
        _, values = outcomes(rng, setting, people=20_000)
        truth += np.nansum(values, axis=0), (~np.isnan(values)).sum(axis=0)
    true = truth[0] / truth[1]
    people, queries = [], []
    for draw in range(draws):
        who, values = outcomes(rng, setting)
        people.append(covers(Sums.of(values, who), true))
        if draw < draws // 10:  # told, not aimed at
            queries.append(covers(Sums.of(values, np.arange(len(who))), true))
    print(f"  {name}: " + ", ".join(
        f"{measure} {100 * share:.1f} (true {100 * value:.1f})"
        for measure, share, value in zip(MEASURES, np.mean(people, axis=0), true, strict=True)
    ) + f"; over queries: mAP {100 * np.mean(queries, axis=0)[0]:.0f}", flush=True)  # fmt: skip


def covers(sums: Sums, true: np.ndarray) -> np.ndarray:
    low, high = intervals(sums, name="identities")
    return (low <= true) & (true <= high)


def outcomes(
    rng: np.random.Generator, setting: Setting, people: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Person of each query (Q,), and its values (Q, 3)."""
    who, difficulty = asked(rng, setting, people or setting.people)
    return who, scored(rng, difficulty, rng.integers(1, MOST_RIGHT + 1, len(who)))


def asked(rng: np.random.Generator, setting: Setting, people: int) -> tuple[np.ndarray, np.ndarray]:
    counts = setting.counts(rng, people)
    own = rng.normal(0, setting.own, people)
    own -= setting.harder * (np.log(counts) - np.log(setting.queries))
    who = np.repeat(np.arange(people), counts)
    return who, setting.level + own[who] + rng.normal(0, setting.each, len(who))


def scored(rng: np.random.Generator, level: np.ndarray, right: np.ndarray) -> np.ndarray:
    """AP, INP and Rank-1 (Q, 3) of queries of these levels with so many right images."""
    scores = level[:, None] + rng.normal(0, 0.55, (len(level), MOST_RIGHT))
    before = rng.binomial(WRONG, ndtr(-scores))
    places = np.arange(MOST_RIGHT)
    before = np.sort(np.where(places < right[:, None], before, 10 * WRONG), axis=1)
    ranks = before + places + 1
    precision = np.where(places < right[:, None], (places + 1) / ranks, 0)
    ap, inp = precision.sum(axis=1) / right, right / ranks[np.arange(len(right)), right - 1]
    return per_query(ap, inp, before[:, 0], np.ones(len(right), bool), MEASURES)


def redrawn(draws: int) -> None:
    """Whole test sets drawn anew, gallery and all, which the intervals do not promise."""
    rng = np.random.default_rng(0)
    found, ends = [], []
    for _ in range(draws):
        centres = rng.normal(size=(100, 24)) * rng.uniform(0.5, 1.1, (100, 1))
        queries, images = (np.repeat(np.arange(100), rng.integers(1, most, 100)) for most in (5, 9))
        sides = [
            Embeddings((centres[who] + rng.normal(size=(len(who), 24))).astype(np.float32), who)
            for who in (queries, images)
        ]
        metrics = evaluate(*sides, exclude="none")
        values = per_query(metrics.ap, metrics.inp, metrics.first, metrics.valid, MEASURES)
        found.append(values.mean(axis=0))
        ends.append(intervals(Sums.of(values, queries), name="identities"))
    true, (low, high) = np.mean(found, axis=0), np.moveaxis(np.array(ends), 1, 0)
    shares = np.mean((low <= true) & (true <= high), axis=0)
    print("  100 people drawn anew with their gallery: " + ", ".join(
        f"{measure} {100 * share:.1f} (true {100 * value:.1f})"
        for measure, share, value in zip(MEASURES, shares, true, strict=True)
    ), flush=True)  # fmt: skip


def false_alarms(name: str, setting: Setting, draws: int) -> None:
    """Two models of equal skill on the same queries: each finds other people hard."""
    rng = np.random.default_rng([*name.encode()])
    alarms = []
    for _ in range(draws):
        who, level = asked(rng, setting, setting.people)
        right = rng.integers(1, MOST_RIGHT + 1, len(who))
        one, other = (
            scored(rng, level + rng.normal(0, 0.35, setting.people)[who], right) for _ in range(2)
        )
        alarms.append([alarm(who, one[:, place] - other[:, place]) for place in (0, 2)])
    share = 100 * np.mean(alarms, axis=0)
    print(f"  {name}: mAP {share[0]:.1f}, Rank-1 {share[1]:.1f}", flush=True)


def alarm(who: np.ndarray, apart: np.ndarray) -> bool:
    sums = np.bincount(who, weights=apart), np.bincount(who).astype(np.float64)
    return between_runs(*sums).p <= 0.05


def of_recipes(seeds: int, draws: int) -> None:
    """Differences of mAP by seed and person: seeds and people each matter or hardly do."""
    rng = np.random.default_rng(seeds)
    told = []
    for of_seed in (0.0, 0.005, 0.02):
        for of_person in (0.0, 0.08):
            alarms = 0
            for _ in range(draws):
                counts = rng.integers(1, 8, 150).astype(np.float64)
                apart = rng.normal(0, of_seed, (seeds, 1)) + rng.normal(0, of_person, 150)
                apart = counts * (apart + rng.normal(0, 0.15, (seeds, 150)))
                alarms += between_recipes(apart, counts).p <= 0.05
            told.append(100 * alarms / draws)
    print(f"  {seeds} seeds, 150 people: {min(told):.1f} to {max(told):.1f}", flush=True)


if __name__ == "__main__":
    main()
