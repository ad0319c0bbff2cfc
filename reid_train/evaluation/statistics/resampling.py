"""Intervals by bootstrap over people.

The queries of one person are not independent: the same clothes, the same few gallery images. So
people are drawn, with all their queries. An interval answers: how far could the figure be off with
other query people like these, **the gallery given**? Who else is in the gallery is not drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reid_train.evaluation.calibration import exact_interval

# The 2.5 % quantile of 1000 draws errs by 4 % of an interval's half width (one standard deviation),
# and what it covers by 0.5 %; ten times the draws would gain a tenth of that and cost ten times.
DRAWS = 1000
LEVEL = 0.95
# With fewer people whose queries are not all right (or not all wrong) draws show too little.
FEW = 10
BLOCK_MIB = 8


@dataclass(frozen=True)
class Sums:
    """Per-query values added up by unit (a person, or a query): N units, M measures.

    totals (N, M): weighted sums of the values; counts (N, M): of the weights. Their ratio over all
    units is the measure: the mean over queries, however many each person has. least: (M,) the
    smallest weight of a query, what a share changes by.
    """

    totals: np.ndarray
    counts: np.ndarray
    least: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, units: np.ndarray, weights: np.ndarray | None = None) -> Sums:
        """values: (Q, M) in 0..1, NaN where a query does not count; units: (Q,) any numbers;
        weights: (Q,) positive, 1 by default. Units without a query that counts are left out.
        """
        weights = np.ones(len(values)) if weights is None else weights
        known = ~np.isnan(values)
        used = known.any(axis=1)
        values, known, units, weights = values[used], known[used], units[used], weights[used]
        names, codes = np.unique(units, return_inverse=True)

        def added(column: np.ndarray) -> np.ndarray:
            return np.bincount(codes, weights=column * weights, minlength=len(names))

        filled = np.where(known, values, 0)
        return cls(
            np.stack([added(column) for column in filled.T], axis=1),
            np.stack([added(column) for column in known.T], axis=1),
            np.where(known, weights[:, None], np.inf).min(axis=0, initial=np.inf),
        )

    def __len__(self) -> int:
        return len(self.totals)

    @property
    def ratio(self) -> np.ndarray:
        """The measures (M,); NaN where no query counts."""
        with np.errstate(invalid="ignore"):
            return self.totals.sum(axis=0) / self.counts.sum(axis=0)


def intervals(sums: Sums, *, name: str, draws: int = DRAWS, level: float = LEVEL) -> np.ndarray:
    """(2, M) lower and upper ends, NaN where fewer than two units have a query.

    name: of the generator that draws. Bootstrap-t (B. Efron and R. Tibshirani, An Introduction to
    the Bootstrap, 1993, section 12.5): every draw's deviation is divided by its own standard error,
    that of a ratio of sums over units (linearised), and the quantiles of these, times the standard
    error here, are laid off from the figure. Percentile intervals of a hundred people and shares
    near 1 cover less than they say, these do not (``benchmarks/intervals.py``).
    Where fewer than FEW units have queries that are not all right (or none that is not all wrong)
    there is next to nothing to draw: then the exact binomial interval for as many independent
    trials as would have this standard error (E. Korn and B. Graubard, Survey Methodology 24, 1998);
    for as many as there are units where all are alike.
    """
    ends = np.full((2, sums.totals.shape[1]), np.nan)
    count, total = len(sums), sums.counts.sum(axis=0)
    if count < 2:
        return ends
    chosen = np.flatnonzero(total)
    ratio, total, counts = sums.ratio[chosen], total[chosen], sums.counts[:, chosen]
    apart = sums.totals[:, chosen] - counts * ratio
    error = np.sqrt((apart**2).sum(axis=0) * count / (count - 1)) / total
    least = sums.least[chosen] / total
    studentised = np.concatenate(
        [
            _studentised(drawn, apart, counts, least)
            for drawn in weights(count, name=name, draws=draws)
        ]
    )
    tail = (1 - level) / 2
    low, high = np.quantile(studentised, [1 - tail, tail], axis=0)
    found = np.stack([ratio - low * error, ratio - high * error])
    part = sums.totals[:, chosen]
    close = 1e-9 * counts
    odd = np.minimum((part < counts - close).sum(axis=0), (part > close).sum(axis=0))
    queries = total / sums.least[chosen]
    for place in np.flatnonzero(odd < FEW):
        found[:, place] = few_interval(
            ratio[place], error[place], units=count, queries=queries[place], level=level
        )
    ends[:, chosen] = found.clip(0, 1)
    return ends


def weights(units: int, *, name: str, draws: int = DRAWS) -> Iterator[np.ndarray]:
    """How often each unit is drawn, in blocks (n, units) float64 of BLOCK_MIB at most: every row is
    ``units`` draws with replacement.
    """
    rng = generator(name)
    block = max(1, int(BLOCK_MIB * 2**20 / (8 * units)))
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        drawn = rng.integers(units, size=(rows, units)) + np.arange(rows)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=rows * units)
        yield counts.reshape(rows, units).astype(np.float64)


def generator(name: str) -> np.random.Generator:
    """The generator of this name: the same numbers on every machine."""
    return np.random.default_rng([*f"statistics/{name}".encode()])


def _studentised(
    drawn: np.ndarray, apart: np.ndarray, counts: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """(n, M): how far each draw's ratio is from the one here, in its own standard errors.

    apart: (N, M) sums minus their expectation. least: (M,) floor of a standard error: a share of
    which all drawn units are right is still uncertain by one query.
    """
    total = drawn @ counts
    away = np.divide(drawn @ apart, total, out=np.zeros_like(total), where=total > 0)
    # The sum of squares about the draw's own ratio, multiplied out.
    squares = drawn @ apart**2 - 2 * away * (drawn @ (apart * counts))
    squares += away**2 * (drawn @ counts**2)
    units = len(apart)
    error = np.sqrt(np.maximum(squares, 0) * units / (units - 1))
    error = np.divide(error, total, out=np.zeros_like(total), where=total > 0)
    return away / np.maximum(error, least)


def few_interval(
    ratio: float, error: float, *, units: int, queries: float, level: float = LEVEL
) -> list[float]:
    """The exact binomial interval of a share ``ratio`` with standard error ``error`` between
    ``units`` units; queries: how many trials it stands for at most.
    """
    from scipy.special import stdtrit

    tail = (1 - level) / 2
    trials = float(units)
    if error > 1e-12:
        fewer = (stdtrit(max(queries - 1, 1), tail) / stdtrit(units - 1, tail)) ** 2
        trials = min(ratio * (1 - ratio) / error**2 * fewer, queries)
    ratio = min(max(ratio, 0.0), 1.0)
    return exact_interval(trials * ratio, trials, level)
