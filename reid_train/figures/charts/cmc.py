"""CMC curves: the share of queries with a right match among the first r."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reid_train.figures.charts.style import Width, band, look, name_runs, panels, styled

TOP = 20


def cmc(runs: Mapping[str, Mapping[str, Any]], *, top: int = TOP, width: Width = "one") -> Any:
    """A matplotlib figure: one line per run, a mark at every rank, its interval as a band.

    runs: name -> ``cmc`` of statistics.json: ``rank`` (R) from 1, ``value`` (R) fractions, and
    ``low`` and ``high`` (R) or None. top: ranks shown.
    """
    with styled():
        figure, (axis,) = panels(1, width=width)
        handles, names, last = [], [], 1
        for number, (name, curve) in enumerate(runs.items()):
            how = look(number)
            ranks = [rank for rank in curve["rank"] if rank <= top]
            last = max(last, *ranks)
            value, low, high = (
                _percent(curve.get(side), len(ranks)) for side in ("value", "low", "high")
            )
            band(axis, ranks, low, high, how.colour)
            handles += axis.plot(
                ranks, value, color=how.colour, linestyle=how.dashes, marker=how.mark,
                markevery=max(1, len(ranks) // 20), clip_on=False,
            )  # fmt: skip
            names.append(name)
        axis.set_xlim(1, max(2, last))
        axis.set_xticks(sorted({1, *range(5, last + 1, 5 if last <= 25 else 10)}))
        axis.set_ylim(top=100)
        axis.set_xlabel("rank")
        axis.set_ylabel("queries matched (%)")
        axis.grid(True)
        name_runs(figure, handles, names, width)
    return figure


def _percent(values: Any, count: int) -> list[float] | None:
    return None if values is None else [100 * value for value in values[:count]]
