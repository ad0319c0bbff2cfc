"""How long steps usually take here, from the artifacts that are there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.artifacts.mark import MARK, read_mark
from pipeline.terminal.errors import DamagedFile

if TYPE_CHECKING:
    from pipeline.artifacts.store import Workspace

# Of each kind, the newest: enough to be usual, few enough to read.
LOOKED_AT = 10


def usual_seconds(workspace: Workspace, names: Iterable[str]) -> dict[str, float]:
    """Kind of step -> median of the seconds that making its newest artifacts took. A kind of which
    there is none is not in it.
    """
    from statistics import median  # slow to import

    found = {}
    for name in set(names):
        marks = list((workspace.root / "artifacts" / name).glob(f"*/{MARK}"))
        dated = sorted(((mark.stat().st_mtime, mark) for mark in marks), reverse=True)
        seconds = []
        for _, mark in dated[:LOOKED_AT]:
            try:
                seconds.append(float(read_mark(mark.parent)["seconds"]))
            except (DamagedFile, OSError, OverflowError):
                continue
        if seconds:
            found[name] = median(seconds)
    return found
