"""How charts look: colours, lines and marks of runs, sizes of a paper's columns, text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

# Okabe and Ito's colours, which people with any colour vision tell apart ("Color Universal
# Design", 2008), without their yellow: as a line on white nobody sees it.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# A line is known by its dashes and marks too, so that a copy in grey says the same.
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
MARKS = ("o", "s", "^", "D", "v", "P", "X")
RIGHT, WRONG = "#009E73", "#D55E00"
INK, FAINT = "#222222", "#777777"

Width = Literal["one", "two"]
INCHES: dict[Width, float] = {"one": 3.3, "two": 7.0}  # of a column, of both (CVPR, IEEE)
BAND = 0.18  # opacity of an interval

_SETTINGS: dict[str, Any] = {
    # Comes with matplotlib: a figure is the same on every machine.
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "legend.title_fontsize": 6,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    # A run or a file may have dollar signs in its name.
    "text.parse_math": False,
    "text.usetex": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    # Whole fonts (TrueType), which publishers ask for; letters of an SVG as outlines, which every
    # reader shows alike; names inside an SVG drawn from its content.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "reidpipe",
    "savefig.dpi": 300,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Look:
    """How the line of a run is drawn: matplotlib's colour, dashes and mark."""

    colour: str
    dashes: Any
    mark: str


def look(number: int) -> Look:
    """Of the ``number``-th run of a chart, from 0. Colours come back after seven runs, then with
    other dashes and marks: 42 looks in all.
    """
    colour, turn = number % len(PALETTE), number // len(PALETTE)
    other = (colour + turn) % len(PALETTE)
    return Look(PALETTE[colour], _DASHES[other], MARKS[other])


def styled() -> AbstractContextManager[None]:
    """Charts are made and saved inside it: what is drawn late (ticks) takes its style late. The
    user's own settings are left out, so that equal data gives an equal figure.
    """
    import matplotlib

    # Not the backend: nothing is shown, and a default would look for a display.
    settings: Any = dict(dict.items(matplotlib.rcParamsDefault)) | _SETTINGS
    del settings["backend"]
    return matplotlib.rc_context(settings)


def panels(
    count: int, *, width: Width, height: float = 2.3, across: int | None = None
) -> tuple[Any, list[Any]]:
    """A figure as wide as one column or two, and ``count`` axes in it, at least one.

    height: inches of each row. across: axes in a row; by default one below the other in one
    column, three beside each other in two (four as two and two).
    """
    # The object interface: no display, no global figure list.
    from matplotlib.figure import Figure

    count = max(1, count)
    across = min(count, across or (1 if width == "one" else 2 if count == 4 else 3))
    rows = -(-count // across)
    figure = Figure(figsize=(INCHES[width], height * rows), layout="constrained")
    axes = list(figure.subplots(rows, across, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def name_runs(figure: Any, handles: Sequence[Any], names: Sequence[str], width: Width) -> None:
    """The legend of a chart of several runs, below all its axes; none for a single one."""
    if len(names) > 1:
        widest = max(len(name) for name in names)
        columns = max(1, min(len(names), int(INCHES[width] * 15) // (widest + 8)))
        figure.legend(
            handles, [_shown(name) for name in names], loc="outside lower center", ncols=columns
        )


def _shown(name: str) -> str:
    """matplotlib leaves out of a legend what begins with an underscore."""
    return f"\u200a{name}" if name.startswith("_") else name


def band(axis: Any, x: Sequence[float], low: Any, high: Any, colour: str) -> None:
    """The interval around a line; nothing where it is not known (None)."""
    if low is not None and high is not None:
        axis.fill_between(x, low, high, color=colour, alpha=BAND, linewidth=0)


def entitle(figure: Any, title: str) -> None:
    """Write ``title`` above a figure, whose height grows where its axes have fixed places."""
    lines = textwrap.wrap(title, int(figure.get_figwidth() * 14)) or [""]
    with styled():
        if figure.get_layout_engine() is not None:
            figure.suptitle("\n".join(lines), fontsize=8)
            return
        before = figure.get_figheight()
        after = before + 0.06 + 0.14 * len(lines)
        scale = before / after
        figure.set_figheight(after)
        for axis in figure.axes:
            box = axis.get_position(original=True)
            axis.set_position((box.x0, box.y0 * scale, box.width, box.height * scale))
        for text in figure.texts:
            text.set_y(text.get_position()[1] * scale)
        for artist in figure.artists:
            artist.set(y=artist.get_y() * scale, height=artist.get_height() * scale)
        figure.text(
            0.5, 1 - 0.04 / after, "\n".join(lines), ha="center", va="top", fontsize=8, color=INK
        )
