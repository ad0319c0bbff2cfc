"""DET curves: false non-matches against false matches on normal-deviate axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

from reid_train.figures.charts.style import FAINT, Width, band, look, name_runs, panels, styled

TICKS = (1e-5, 1e-4, 0.001, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99, 0.999)
# Rates of 0 and 1 have no place on these axes.
LEAST, MOST = 1e-6, 1 - 1e-6


def det(runs: Mapping[str, Mapping[str, Any]], *, width: Width = "one") -> Any:
    """A matplotlib figure (Martin et al., "The DET curve in assessment of detection task
    performance", Eurospeech 1997): one line per run, the interval of its false non-match rate as a
    band, and the line on which both rates are equal.

    runs: name -> ``roc`` of statistics.json, as ``roc`` takes it; FMR is ``fpr``, FNMR 1 - ``tpr``.
    """
    with styled():
        figure, (axis,) = panels(1, width=width, height=2.9)
        handles, names = [], []
        spans: list[list[float]] = [[], []]
        for number, (name, curve) in enumerate(runs.items()):
            how = look(number)
            missed = [1 - value for value in curve["tpr"]]
            shown = [
                place
                for place, rates in enumerate(zip(curve["fpr"], missed, strict=True))
                if all(LEAST <= rate <= MOST for rate in rates)
            ]
            across = _deviates(curve["fpr"], shown)
            up = _deviates(missed, shown)
            # What is above the one is below the other.
            low, high = (
                None
                if curve.get(side) is None
                else _deviates([1 - value for value in curve[side]], shown)
                for side in ("high", "low")
            )
            band(axis, across, low, high, how.colour)
            handles += axis.plot(
                across, up, color=how.colour, linestyle=how.dashes, marker=how.mark,
                markevery=(0.05, 0.15),
            )  # fmt: skip
            names.append(name)
            spans[0] += across
            spans[1] += up
        _limits(axis, spans)
        axis.axline((0, 0), slope=1, color=FAINT, linewidth=0.5, zorder=0)
        axis.set_xlabel("false match rate (%)")
        axis.set_ylabel("false non-match rate (%)")
        axis.grid(True)
        name_runs(figure, handles, names, width)
    return figure


def _deviates(rates: Sequence[float], shown: Sequence[int]) -> list[float]:
    normal = NormalDist()
    return [normal.inv_cdf(min(MOST, max(LEAST, rates[place]))) for place in shown]


def _limits(axis: Any, spans: Sequence[Sequence[float]]) -> None:
    """Both axes over what was measured, with the ticks that lie there."""
    normal = NormalDist()
    for side, values in zip((axis.xaxis, axis.yaxis), spans, strict=True):
        low, high = min(values, default=-3.2), max(values, default=0.3)
        margin = max(0.05 * (high - low), 0.1)
        side.set_ticks(
            [normal.inv_cdf(rate) for rate in TICKS], [f"{100 * rate:g}" for rate in TICKS]
        )
        setter = axis.set_xlim if side is axis.xaxis else axis.set_ylim
        setter(low - margin, high + margin)
