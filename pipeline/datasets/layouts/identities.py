"""Files that list identities: numbers with commas, or a MATLAB file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.datasets.layouts.matlab import read_mat
from pipeline.datasets.layouts.rows import integer, read_lines
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from pipeline.datasets.layouts.files import Reading


def listed_identities(reading: Reading, names: Sequence[str]) -> frozenset[int]:
    """The identities of all files ``names``, given without their ending: ``.txt``, else ``.mat``.

    Raises ReidpipeError for a file that is nowhere, holds no numbers or cannot be read.
    """
    found: set[int] = set()
    for name in names:
        path = reading.place(f"{name}.txt") or reading.place(f"{name}.mat")
        if path is None:
            raise ReidpipeError(
                f"found no {name}.txt and no {name}.mat in {reading.root}; expected the identities "
                f"of a split of {reading.manifest.title}; unpack the archive again"
            )
        found |= _text(path) if path.suffix == ".txt" else _matlab(path)
    return frozenset(found)


def _text(path: Path) -> set[int]:
    words = [word for line in read_lines(path) for word in re.split(r"[,\s]+", line) if word]
    numbers = {word: integer(word) for word in words}
    odd = next((word for word, n in numbers.items() if n is None or n < 0), None)
    if odd is not None or not words:
        raise ReidpipeError(
            f"{path}: found '{(odd or '')[:40]}'; expected numbers of identities with commas "
            "between them; unpack the archive again"
        )
    return {number for number in numbers.values() if number is not None}


def _matlab(path: Path) -> set[int]:
    values = read_mat(path, ("id",))["id"].ravel().tolist()
    if not values or any(not isinstance(v, int | float) or v != int(v) for v in values):
        raise ReidpipeError(
            f"{path}: found no whole numbers in 'id'; expected numbers of identities; unpack the "
            "archive again"
        )
    return {int(value) for value in values}
