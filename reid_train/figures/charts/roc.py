"""ROC curves: pairs of one person accepted, against pairs of two people accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reid_train.figures.charts.style import Width, band, look, name_runs, panels, styled

# Below it nothing is counted on any dataset of this field: a million pairs of different people.
LOWEST = 1e-6


def roc(runs: Mapping[str, Mapping[str, Any]], *, width: Width = "one") -> Any:
    """A matplotlib figure: one line per run, its interval as a band; false positive rates on a
    logarithmic axis, as only the small ones matter to a search.

    runs: name -> ``roc`` of statistics.json: ``fpr`` (T) rising, ``tpr`` (T) fractions, and ``low``
    and ``high`` (T) or None, the interval of ``tpr``.
    """
    with styled():
        figure, (axis,) = panels(1, width=width)
        handles, names, left = [], [], 0.1
        for number, (name, curve) in enumerate(runs.items()):
            how = look(number)
            shown = [place for place, rate in enumerate(curve["fpr"]) if rate >= LOWEST]
            rates = [100 * curve["fpr"][place] for place in shown]
            left = min([left, *(rate / 100 for rate in rates)])
            value, low, high = (_percent(curve.get(side), shown) for side in ("tpr", "low", "high"))
            band(axis, rates, low, high, how.colour)
            handles += axis.plot(
                rates, value, color=how.colour, linestyle=how.dashes, marker=how.mark,
                markevery=(0.05, 0.15),
            )  # fmt: skip
            names.append(name)
        axis.set_xscale("log")
        axis.set_xlim(100 * left, 100)
        axis.set_ylim(-1, 101)
        axis.xaxis.set_major_formatter(lambda rate, _place: f"{rate:g}")
        axis.set_xlabel("false positive rate (%)")
        axis.set_ylabel("true positive rate (%)")
        axis.grid(True)
        name_runs(figure, handles, names, width)
    return figure


def _percent(values: Any, shown: Sequence[int]) -> list[float] | None:
    return None if values is None else [100 * values[place] for place in shown]
