"""The ROC curve of an evaluation's pairs, with intervals over people."""

from __future__ import annotations

import numpy as np

from reid_train.evaluation.calibration import above, exact_interval, quantiles
from reid_train.evaluation.statistics.resampling import rising
from reid_train.evaluation.statistics.stored import Estimate, Roc
from reid_train.evaluation.threshold import RATES, PairStatistics

POINTS = 100
LEAST_FPR = 1e-6
FEW_PAIRS = "fewer than {} pairs of different people, which this rate takes to be seen"
FEW_PEOPLE = "fewer than three people"


def roc(pairs: PairStatistics) -> tuple[Roc | None, dict[str, Estimate] | None, dict[str, str]]:
    """The curve, the true positive rate at each of RATES, and why there is no such number.

    False positive rates from 1/pairs (10^-6 at least) to 1, spaced by their logarithm. A rate's
    threshold is the lowest edge of a bin that at most this share of the pairs of different people
    reaches, as in ``Calibration.threshold``. Intervals: people are drawn with replacement
    (``resampled_shares``), and each draw has its own threshold; of the pairs of different people
    those noted for the bootstrap take part, so that at rates near 1/(their number) the interval is
    rather wide. It always holds the rate that all pairs give; where all draws agree it is
    the exact binomial one of as many trials as there are query people; and what is known at one
    rate holds for larger ones (``rising``).
    """
    same, different = above(pairs.same), above(pairs.different)
    if not (same[0] and different[0]):
        kind = "the same person" if different[0] else "different people"
        return None, None, dict.fromkeys(("roc", "tpr_at_fpr"), f"no pair of {kind}")
    least = max(LEAST_FPR, 1 / different[0])
    rates = np.geomspace(least, 1, POINTS)
    asked = np.concatenate([rates, RATES])
    tpr = same[places(different / different[0], asked)] / same[0]
    low, high = intervals(pairs, asked, tpr)
    why = {} if low is not None else {"roc.low": FEW_PEOPLE, "roc.high": FEW_PEOPLE}
    curve = Roc(
        fpr=_rounded(rates),
        tpr=_rounded(tpr[: len(rates)]),
        low=None if low is None else _rounded(low[: len(rates)]),
        high=None if high is None else _rounded(high[: len(rates)]),
    )
    at = {}
    for place, rate in enumerate(RATES, len(rates)):
        name, needed = f"{rate:g}", int(np.ceil(3 / rate))
        interval = None if low is None or high is None else _rounded([low[place], high[place]])
        if different[0] < needed:
            interval, why[f"tpr_at_fpr.{name}.interval"] = None, FEW_PAIRS.format(needed)
        at[name] = Estimate(value=_rounded([tpr[place]])[0], interval=interval)
    return curve, at, why


def intervals(
    pairs: PairStatistics, rates: np.ndarray, tpr: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Lower and upper ends (R,) at false positive rates (R,), around ``tpr`` (R,)."""
    wrong, right = pairs.resampled
    if wrong is None or right is None:
        return None, None
    drawn = np.stack(
        [
            row[places(share, rates)] if not np.isnan(share[0]) else np.full(len(rates), np.nan)
            for share, row in zip(wrong, right, strict=True)
        ]
    )
    found = quantiles(drawn)
    if found is None:
        return None, None
    low, high = np.minimum(found[0], tpr), np.maximum(found[1], tpr)
    people = len(np.unique(np.concatenate([who for who, _ in pairs.matched])))
    for place in np.flatnonzero(low == high):  # no draw shows what none of the people does
        low[place], high[place] = exact_interval(people * tpr[place], people)
    order = np.argsort(rates, kind="stable")
    low[order], high[order] = rising(np.stack([low, high])[:, order])
    return low, high


def places(shares: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """The first places of descending ``shares`` (B,) that are at most each of ``rates`` (R,)."""
    # A share computed in float32 may lie above the same share by its rounding.
    return np.searchsorted(-shares.astype(np.float64), -rates * (1 + 1e-6), side="left")


def _rounded(values: object) -> list[float]:
    return [float(f"{value:.6g}") for value in np.asarray(values).tolist()]
