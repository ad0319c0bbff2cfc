"""For which queries two runs differ: camera, view, how much of a person is on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.labels.maps import LabelMapReader
from reid_train.evaluation.statistics.paired import over_people
from reid_train.figures.page.views import RunView

MOST = 12  # cameras, or views, in a table
SHARES = 3


def by_kind(view: RunView, queries: Sequence[int], gains: np.ndarray) -> list[dict[str, Any]]:
    """Mean gain in AP of each kind of query, with its interval over people.

    queries: their places in the ranking of ``view``; gains: (Q,), one for each.
    """
    rows = [view.pictures.rows[str(view.ranking.query_keys[query])] for query in queries]
    pids = np.array([-1 if row.pid is None else row.pid for row in rows])
    told = []
    for name, mine in (
        *_of_values("camera", [row.camid for row in rows]),
        *_of_values("view", [row.view for row in rows]),
        *_of_foreground(view, [row.key for row in rows]),
    ):
        found = over_people(gains[mine], pids[mine])
        told.append(
            {
                "name": name,
                "queries": len(mine),
                "people": len(np.unique(pids[mine])),
                "gain": found.value,
                "interval": found.interval,
            }
        )
    return told


def _of_values(kind: str, values: Sequence[int | None]) -> Iterator[tuple[str, np.ndarray]]:
    """The places of each value; nothing where there is one alone, or are too many."""
    known = sorted({value for value in values if value is not None})
    if 1 < len(known) <= MOST:
        for value in known:
            yield f"{kind} {value}", np.flatnonzero([other == value for other in values])


def _of_foreground(view: RunView, keys: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Thirds by the share of pixels that the label maps call a person's; nothing without maps."""
    if view.maps is None or len(keys) < SHARES:
        return
    reader = LabelMapReader(view.maps)
    if not all(key in reader for key in keys):
        return
    shares = np.array([(reader[key][0] > 0).mean() for key in keys])
    if shares.min() == shares.max():
        return
    for mine in np.array_split(np.argsort(shares, kind="stable"), SHARES):
        low, high = 100 * shares[mine[0]], 100 * shares[mine[-1]]
        yield f"foreground {low:.0f} to {high:.0f} %", mine
