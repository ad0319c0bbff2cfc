"""Figures over seeds: mean and sample standard deviation, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation (n - 1; None for a single value) of ``values``."""
    return {
        "mean": mean(values),
        "std": stdev(values) if len(values) > 1 else None,
        "n": len(values),
        "values": list(values),
    }


def percent(figure: Mapping[str, Any]) -> str:
    """A result of ``spread`` over fractions as "50.0 ± 36.1", in percent; the mean alone without a
    deviation.
    """
    number = f"{100 * figure['mean']:5.1f}"
    return number if figure["std"] is None else f"{number} ± {100 * figure['std']:.1f}"
