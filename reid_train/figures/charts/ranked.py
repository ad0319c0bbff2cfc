"""Ranked lists: queries with their best matches, right and wrong ones told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reid_train.figures.charts.grid import Cell, grid
from reid_train.figures.charts.style import FAINT, INK, RIGHT, WRONG, Width
from reid_train.figures.ranked_lists import VERDICTS, Match

_FRAMES = {"right": RIGHT, "wrong": WRONG, "left-out": FAINT, "unknown": FAINT}


@dataclass(frozen=True)
class RankedList:
    """A query, uint8 (h, w, 3) RGB, and its matches, best first; name: beside the row."""

    query: np.ndarray
    matches: Sequence[Match]
    name: str = ""


def ranked(lists: Sequence[RankedList], *, width: Width = "two") -> Any:
    """A matplotlib figure, a row per list. Each match has a frame and, for readers who see no
    colour, a sign (+ right, x wrong) before its similarity.
    """
    rows = []
    for found in lists:
        cells = [
            Cell(
                match.image,
                f"{VERDICTS[match.verdict][0]} {match.similarity:.2f}".strip(),
                _FRAMES[match.verdict],
            )
            for match in found.matches
        ]
        rows.append([Cell(found.query, "query", INK), *cells])
    names = [found.name for found in lists]
    return grid(rows, row_names=names if any(names) else (), apart=True, width=width)
