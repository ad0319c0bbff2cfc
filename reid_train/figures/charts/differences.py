"""Differences from one row, each with its intervals: a forest plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reid_train.figures.charts.style import FAINT, INK, PALETTE, Width, panels, styled


class Apart(NamedTuple):
    """In points. value: the difference. seeds: [low, high] over seeds alone, None of a single one;
    both: over seeds and people, of a single seed over people.
    """

    value: float
    seeds: Sequence[float] | None
    both: Sequence[float]


def differences(
    rows: Mapping[str, Apart], *, measure: str, reference: str, width: Width = "one"
) -> Any:
    """A matplotlib figure: a line per row, from above, the thick one over seeds alone."""
    with styled():
        figure, (axis,) = panels(1, width=width, height=0.9 + 0.2 * len(rows))
        axis.axvline(0, color=FAINT, linewidth=0.8)
        drawn = {}
        for place, row in enumerate(rows.values()):
            of_both = "95 %, other seeds and people" if row.seeds else "95 %, other people"
            for interval, thick, name in (
                (row.both, 0.8, of_both),
                (row.seeds, 2.4, "95 %, other seeds"),
            ):
                if interval is not None:
                    (drawn[name],) = axis.plot(
                        interval, [place, place], color=PALETTE[0], linewidth=thick
                    )
            axis.plot(
                [row.value], [place], marker="o", markersize=4, color=PALETTE[0],
                markeredgecolor=INK, markeredgewidth=0.5, linestyle="none",
            )  # fmt: skip
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.grid(axis="x")
        axis.set_axisbelow(True)
        axis.set_xlabel(f"{measure} less that of\n{reference} (points)")
        figure.legend(
            drawn.values(), drawn.keys(), loc="outside lower center",
            ncols=1 if width == "one" else 2,
        )  # fmt: skip
    return figure
