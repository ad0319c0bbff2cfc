"""Points in the plane: features of people, or of cells of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reid_train.figures.charts.style import FAINT, INK, MARKS, PALETTE, Width, panels, styled

# Of groups of body parts; told apart by brightness too.
GROUP_COLOURS = ("#D55E00", "#9ecae1", "#08306b")


def identities(points: np.ndarray, pids: Sequence[int], *, width: Width = "two") -> Any:
    """A matplotlib figure: points (N, 2) of N images, one colour and mark per identity."""
    labels = np.asarray(pids)
    with styled():
        figure, (axis,) = panels(1, width=width, height=4.2 if width == "two" else 2.6)
        for number, pid in enumerate(sorted(set(pids))):
            mine = points[labels == pid]
            turn = number // len(PALETTE)
            axis.scatter(
                mine[:, 0], mine[:, 1], s=14, color=PALETTE[number % len(PALETTE)],
                marker=MARKS[(number + turn) % len(MARKS)],
                edgecolors=INK if turn else "none", linewidths=0.5, label=str(pid),
            )  # fmt: skip
        _bare(axis)
        axis.legend(title="identity", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def parts(
    runs: Mapping[str, tuple[np.ndarray, Sequence[int], Sequence[int]]],
    groups: Sequence[str],
    *,
    width: Width = "two",
) -> Any:
    """A matplotlib figure, a panel per run: the colour says which of ``groups`` (names) a cell
    shows, the mark whose it is.

    runs: name -> points (M, 2), a place in ``groups`` each (M), identities (M).
    """
    people = sorted({pid for _, _, pids in runs.values() for pid in pids})
    marks = {pid: MARKS[number % len(MARKS)] for number, pid in enumerate(people)}
    with styled():
        tall = 2.6 if width == "one" or len(runs) > 1 else 4.2
        figure, axes = panels(len(runs), width=width, height=tall)
        for axis, (name, (points, group, pids)) in zip(axes, runs.items(), strict=True):
            owners, shown = np.asarray(pids), np.asarray(group)
            for pid in people:
                for place, colour in enumerate(GROUP_COLOURS[: len(groups)]):
                    mine = points[(owners == pid) & (shown == place)]
                    axis.scatter(
                        mine[:, 0], mine[:, 1], s=12, marker=marks[pid], color=colour,
                        edgecolors=INK, linewidths=0.3,
                    )  # fmt: skip
            _bare(axis)
            if len(runs) > 1:
                axis.set_title(name)
        blank = axes[0]
        keys = [
            *(
                blank.scatter([], [], s=14, color=GROUP_COLOURS[place])
                for place in range(len(groups))
            ),
            *(blank.scatter([], [], s=14, marker=mark, color=FAINT) for mark in marks.values()),
        ]
        names = [*groups, *(f"identity {pid}" for pid in people)]
        figure.legend(keys, names, loc="outside lower center", ncols=3 if width == "one" else 5)
    return figure


def _bare(axis: Any) -> None:
    """t-SNE's axes mean nothing: no ticks, a frame."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(True)
