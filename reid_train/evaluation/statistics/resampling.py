"""Intervals by bootstrap over people.

The queries of one person are not independent: the same clothes, the same few gallery images. So
people are drawn, with all their queries. An interval answers: how far could the figure be off with
other query people like these, **the gallery given**? Who else is in the gallery is not drawn anew,
and a figure among other or more images is another figure.
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
# With fewer people, or independent trials, that are not like all others draws show too little.
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
    """(2, M) lower and upper ends, NaN where fewer than two units have a query that counts.

    name: of the generator that draws. Bootstrap-t (B. Efron and R. Tibshirani, An Introduction to
    the Bootstrap, 1993, section 12.5): every draw's deviation is divided by its own standard error,
    that of a ratio of sums over units (linearised), and the quantiles of these, times the standard
    error here, are laid off from the figure. Percentile intervals of a hundred people and shares
    near 1 cover less than they say, these do not (``benchmarks/intervals.py``).
    Where next to nothing is there to draw it is the exact binomial interval for as many independent
    trials as would have this standard error (E. Korn and B. Graubard, Survey Methodology 24, 1998),
    which rather covers too much: where fewer than FEW units have queries that are not all right (or
    not all wrong), or fewer than FEW of those trials would be wrong (or right). For as many trials
    as there are units where all are alike.
    """
    ends = np.full((2, sums.totals.shape[1]), np.nan)
    units = (sums.counts > 0).sum(axis=0)
    chosen = np.flatnonzero(units > 1)
    if not len(chosen):
        return ends
    units, ratio, counts = units[chosen], sums.ratio[chosen], sums.counts[:, chosen]
    part, total = sums.totals[:, chosen], counts.sum(axis=0)
    apart = part - counts * ratio
    error = np.sqrt((apart**2).sum(axis=0) * units / (units - 1)) / total
    least = sums.least[chosen] / total
    studentised = np.concatenate(
        [
            _studentised(drawn, apart, counts, least)
            for drawn in weights(len(sums), name=name, draws=draws)
        ]
    )
    tail = (1 - level) / 2
    low, high = np.quantile(studentised, [1 - tail, tail], axis=0)
    found = np.stack([ratio - low * error, ratio - high * error])
    close = 1e-9 * counts
    odd = np.minimum((part < counts - close).sum(axis=0), (part > close).sum(axis=0))
    for place in range(len(chosen)):
        trials = trials_of(ratio[place], error[place], int(units[place]), 1 / least[place], level)
        if odd[place] < FEW or trials * min(ratio[place], 1 - ratio[place]) < FEW:
            found[:, place] = exact_interval(trials * min(ratio[place], 1.0), trials, level)
    ends[:, chosen] = found.clip(0, 1)
    return ends


def rising(ends: np.ndarray) -> np.ndarray:
    """Ends (2, M) of the intervals of a curve that never falls, as a CMC or a ROC: what it is above
    at one place it is above at later ones, and below likewise. Else a place where all are right, of
    which the exact interval has to be wide, would seem less sure than one before it.
    """
    low = np.maximum.accumulate(ends[0])
    return np.stack([low, np.minimum.accumulate(ends[1][::-1])[::-1]])


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
    units = (counts > 0).sum(axis=0)
    squares = drawn @ apart**2 - 2 * away * (drawn @ (apart * counts))
    squares += away**2 * (drawn @ counts**2)
    error = np.sqrt(np.maximum(squares, 0) * units / (units - 1))
    error = np.divide(error, total, out=np.zeros_like(total), where=total > 0)
    return away / np.maximum(error, least)


def trials_of(
    ratio: float, error: float, units: int, queries: float, level: float = LEVEL
) -> float:
    """How many independent trials would give a share ``ratio`` the standard error ``error`` that it
    has between ``units`` units, at most as many as there are ``queries``; less for what few units
    say of the error. As many as units where it is 0.
    """
    from scipy.special import stdtrit

    tail = (1 - level) / 2
    if error <= 1e-12:
        return float(units)
    fewer = (stdtrit(max(queries - 1, 1), tail) / stdtrit(units - 1, tail)) ** 2
    return float(min(ratio * (1 - ratio) / error**2 * fewer, queries))
