"""Is a recipe better than another over training again? A paired t test over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid_train.evaluation.statistics.paired import LEVEL

POWER = 0.8


@dataclass(frozen=True)
class OverSeeds:
    """The first recipe minus the second, over seeds. value, interval, p: as of ``Difference``, for
    these people. sees: the smallest difference that as many seeds of this spread find with the
    chance POWER at LEVEL.
    """

    value: float
    interval: list[float]
    p: float
    sees: float


def over_seeds(differences: np.ndarray) -> OverSeeds | None:
    """differences: (S,) a measure in 0..1 of the first recipe minus that of the second, by seed.
    None for a single seed.

    What p is about: training again with other seeds, on the same people and images. ``sees`` is
    (t[1 - LEVEL/2] + t[POWER]) standard errors, t with S - 1 degrees of freedom (G. Snedecor and
    W. Cochran, Statistical Methods, 8th ed., section 6.14).
    """
    from scipy.special import stdtr, stdtrit

    seeds = len(differences)
    if seeds < 2:
        return None
    value = float(differences.mean())
    error = float(differences.std(ddof=1)) / seeds**0.5
    if error <= 1e-9:
        return OverSeeds(value, [value, value], 1.0 if abs(value) < 1e-9 else 0.0, 0.0)
    reach = float(stdtrit(seeds - 1, 1 - LEVEL / 2))
    half = reach * error
    return OverSeeds(
        value,
        [max(-1.0, value - half), min(1.0, value + half)],
        2 * float(stdtr(seeds - 1, -abs(value) / error)),
        (reach + float(stdtrit(seeds - 1, POWER))) * error,
    )
