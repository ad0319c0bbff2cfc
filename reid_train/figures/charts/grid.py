"""Pictures in rows and columns, with names, frames and a key of colours around them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reid_train.figures.charts.style import INCHES, INK, Width, styled

# Inches; a letter's width is that of the text's mean letter.
_GAP, _LINE, _LETTER, _MARGIN = 0.04, 0.11, 0.05, 0.03
_TALLEST, _WIDEST = 2.5, 1.1  # of a cell: its height in widths, its width in inches


@dataclass(frozen=True)
class Cell:
    """A picture, uint8 (h, w, 3) RGB, as it is shown: in its own aspect, in a frame where a colour
    is named, over a short text.
    """

    picture: np.ndarray
    text: str = ""
    frame: str | None = None


def grid(
    rows: Sequence[Sequence[Cell]],
    *,
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    key: Sequence[tuple[str, str]] = (),
    apart: bool = False,
    width: Width = "two",
) -> Any:
    """A matplotlib figure: pictures of ``rows``, each row as long or shorter than the first.

    row_names: beside each row, turned. column_names: above. key: colours and what they mean, below.
    apart: the first column stands a little away from the others. Pictures are embedded as they are.
    """
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    aspect = _aspect([cell for row in rows for cell in row])
    across = INCHES[width]
    extra = 2 * _GAP if apart else 0.0
    # Names are wrapped to the height of their row, which the room for them makes smaller.
    names, left, side = [], _MARGIN, 0.0
    for _ in range(4):
        side = min(_WIDEST, (across - left - extra - _MARGIN) / columns - _GAP)
        names = [_wrapped(name, side * aspect) for name in row_names]
        left = max(left, _MARGIN + _LINE * max((len(lines) for lines in names), default=0))
    down = side * aspect
    text = [_LINE if any(cell.text for cell in row) else 0.0 for row in rows]
    keys = _key_lines(key, across)
    top = _MARGIN + (_LINE if column_names else 0.0)
    height = top + sum(down + _GAP + line for line in text) + _LINE * 1.3 * len(keys) + _MARGIN
    with styled():
        figure = Figure(figsize=(across, height))

        def words(x: float, y: float, what: str, room: float = across, **how: Any) -> None:
            size = max(3.5, min(6.0, 6 * room / (_LETTER * max(1, len(what)))))
            figure.text(x / across, 1 - y / height, what, fontsize=size, color=INK, **how)

        start = left + max(0.0, (across - left - extra - columns * (side + _GAP)) / 2)
        places = [start + n * (side + _GAP) + (extra if n else 0.0) for n in range(columns)]
        for place, name in zip(places, column_names, strict=False):
            words(place + side / 2, top - 0.02, name, side, ha="center", va="bottom")
        y = top
        for number, row in enumerate(rows):
            if number < len(names):
                words(start - 0.03, y + down / 2, "\n".join(names[number]), 9 * across,
                      rotation=90, ha="right", va="center", multialignment="center")  # fmt: skip
            for place, cell in zip(places, row, strict=False):
                box = (place / across, 1 - (y + down) / height, side / across, down / height)
                _show(figure.add_axes(box), cell)
                if cell.text:
                    words(place + side / 2, y + down + 0.02, cell.text, side, ha="center", va="top")
            y += down + text[number] + _GAP
        for line in keys:
            _draw_key(figure, line, y, across, height, words)
            y += 1.3 * _LINE
    return figure


def _show(axis: Any, cell: Cell) -> None:
    axis.imshow(cell.picture, interpolation="none", aspect="equal")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(cell.frame is not None)
    if cell.frame is not None:
        axis.spines[:].set_color(cell.frame)
        axis.spines[:].set_linewidth(1.5)


def _aspect(cells: Sequence[Cell]) -> float:
    """Height of a cell in widths: that of the middle picture, so that few are shown small."""
    shapes = sorted(cell.picture.shape[0] / cell.picture.shape[1] for cell in cells)
    return min(_TALLEST, max(1 / _TALLEST, shapes[len(shapes) // 2]))


def _wrapped(name: str, room: float) -> list[str]:
    return textwrap.wrap(name, max(6, int(room / _LETTER))) or [""]


def _key_lines(key: Sequence[tuple[str, str]], across: float) -> list[list[tuple[str, str, float]]]:
    """Colour, name and place (inches from the left) of every entry, in lines that fit."""
    lines: list[list[tuple[str, str, float]]] = []
    x = across
    for colour, name in key:
        size = 0.2 + _LETTER * (len(name) + 1)
        if not lines or x + size > across:
            lines.append([])
            x = _MARGIN
        lines[-1].append((colour, name, x))
        x += size
    return lines


def _draw_key(
    figure: Any,
    line: Sequence[tuple[str, str, float]],
    y: float,
    across: float,
    height: float,
    words: Any,
) -> None:
    from matplotlib.patches import Rectangle

    for colour, name, x in line:
        box = Rectangle(
            (x / across, 1 - (y + 0.1) / height), 0.12 / across, 0.08 / height,
            facecolor=colour, edgecolor=INK, linewidth=0.4, transform=figure.transFigure,
        )  # fmt: skip
        figure.add_artist(box)
        words(x + 0.16, y + 0.06, name, ha="left", va="center_baseline")
