"""Is one run better than another, or one recipe? Tests on the same queries, paired by person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reid_train.evaluation.statistics.resampling import generator

LEVEL = 0.05
FLIPS = 4999  # and the one that is there: p is a multiple of 1/5000
EXACT = 12  # people up to whom all 2^N flips are counted
BLOCK = 2**20


@dataclass(frozen=True)
class Difference:
    """The first minus the second. value: in -1..1; interval: [low, high] at the level 1 - LEVEL,
    which has 0 inside only where p is above LEVEL and outside only where it is not (an end at 0,
    as shares have, decides nothing); p: two-sided.
    """

    value: float
    interval: list[float]
    p: float


def between_runs(differences: np.ndarray, counts: np.ndarray, *, flips: int = FLIPS) -> Difference:
    """Two runs, over people. differences: (N,) sum over a person's queries of the first run's
    values minus the second's; counts: (N,) how many queries, positive. flips: how many are drawn.

    What p is about: other query people, the same two models and gallery. Were both equally good,
    each person's difference could as well have the other sign: p is the share of all sign flips
    whose total is as far from 0 (R. Fisher, The Design of Experiments, 1935, section 21), all 2^N
    of them up to EXACT people, else some drawn. Of those drawn a total exactly as far counts half
    (H. Lancaster, JASA 56, 1961): of Rank-1, where a few people differ by whole queries, many are.
    The interval holds the differences per query that the same flips do not reject when they are
    taken off first. Exact where people's differences are symmetric about the true one.
    """
    total, queries = float(differences.sum()), float(counts.sum())
    low, high, beyond, seen = [], [], 0.0, 0
    close = 1e-9 * max(1, abs(total))  # rounding must not part totals that are equal
    half = 0.5 if len(differences) > EXACT and abs(total) > close else 0.0
    for signs in _signs(len(differences), flips):
        flipped, turned = signs @ differences, signs @ counts
        away = np.abs(flipped) - abs(total)
        beyond += float((away >= -close).sum() - half * (np.abs(away) < close).sum())
        seen += len(signs)
        # A flip counts at d where |flipped - d turned| >= |total - d queries|: between two roots.
        with np.errstate(divide="ignore", invalid="ignore"):
            roots = np.stack(
                [(total - flipped) / (queries - turned), (total + flipped) / (queries + turned)]
            )
        everywhere = (np.abs(turned) == queries) | np.isnan(roots).any(axis=0)
        low.append(np.where(everywhere, -1, roots.min(axis=0)))
        high.append(np.where(everywhere, 1, roots.max(axis=0)))
    place = int(np.floor(LEVEL * seen + 1e-9))
    ends = [
        float(np.sort(np.concatenate(low))[place]),
        float(np.sort(np.concatenate(high))[::-1][place]),
    ]
    return Difference(total / queries, [max(-1.0, ends[0]), min(1.0, ends[1])], beyond / seen)


def over_people(gains: np.ndarray, pids: np.ndarray) -> Difference:
    """``between_runs`` of queries: gains (Q,), one run's value less the other's, of the people
    ``pids`` (Q,).
    """
    _, codes = np.unique(pids, return_inverse=True)
    return between_runs(np.bincount(codes, weights=gains), np.bincount(codes).astype(np.float64))


def between_recipes(differences: np.ndarray, counts: np.ndarray) -> Difference:
    """Two recipes over seeds, paired by seed and person. differences: (S, N), a row per seed as in
    ``between_runs``; counts: (N,).

    What p is about: training again with other seeds, and other query people. Both vary what is
    seen, and they cross: every seed meets the same people. The variance of the mean is that
    between seeds plus that between people minus what both hold of the rest (A. Cameron, J. Gelbach
    and D. Miller, Robust inference with multiway clustering, 2011), and t has the degrees of
    freedom that F. Satterthwaite gives such a sum (Biometrics Bulletin 2, 1946): seeds - 1 where
    seeds differ most, many where people do. How far two seeds differ says next to nothing of
    others: then seeds count fourfold for the degrees of freedom (false alarms at .05 are 1 to 6 %,
    with more seeds 2 to 7 %: ``benchmarks/intervals.py``). One seed tells nothing of others at all:
    ``between_runs``, over people alone.
    """
    seeds, people = differences.shape
    if seeds == 1 or people == 1:
        return between_runs(differences.mean(axis=0), counts)
    from scipy.special import stdtr, stdtrit  # a quarter of a second, which a run alone is spared

    queries = float(counts.sum())
    by_seed = differences.sum(axis=1) / queries
    value = float(by_seed.mean())
    by_person = differences.mean(axis=0) - value * counts
    rest = differences - differences.mean(axis=0) - np.outer(by_seed - value, counts)
    of_seeds = float(by_seed.var(ddof=1)) / seeds
    of_people = float((by_person**2).sum()) * people / (people - 1) / queries**2
    of_rest = float((rest**2).sum()) * people / queries**2 / ((seeds - 1) * (people - 1) * seeds)
    variance = max(of_seeds + of_people - of_rest, of_seeds, of_people)
    if variance <= 1e-18:
        return Difference(value, [value, value], 1.0 if abs(value) < 1e-9 else 0.0)
    counted = of_seeds * (4 if seeds == 2 else 1)
    freedom = max(counted + of_people - of_rest, counted, of_people) ** 2 / (
        counted**2 / (seeds - 1)
        + of_people**2 / (people - 1)
        + of_rest**2 / ((seeds - 1) * (people - 1))
    )
    error = variance**0.5
    half = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(value) / error))
    return Difference(value, [max(-1.0, value - half), min(1.0, value + half)], p)


def holm(p: Sequence[float]) -> list[float]:
    """Each p corrected for all that were tested together: the chance that any of several equally
    good pairs seems different stays below the level (S. Holm, Scandinavian Journal of Statistics 6,
    1979).
    """
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    steps = np.minimum(1, np.maximum.accumulate(np.asarray(p, np.float64)[order] * factors))
    result = np.empty(len(p))
    result[order] = steps
    return result.tolist()


def _signs(people: int, flips: int) -> Iterator[np.ndarray]:
    """Blocks (n, N) of 1 and -1: all flips, or those drawn, the first of which flips nothing."""
    if people <= EXACT:
        bits = np.arange(2**people)[:, None] >> np.arange(people) & 1
        yield 1.0 - 2.0 * bits
        return
    yield np.ones((1, people))
    rng = generator("paired")
    block = max(1, BLOCK // people)
    for start in range(0, flips, block):
        rows = min(block, flips - start)
        bits = rng.integers(2, size=(rows, people), dtype=np.int8)
        yield 1.0 - 2.0 * bits
