"""Ranked lists of some queries, a row per run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reid_train.figures.charts.ranked import RankedList, ranked
from reid_train.figures.comparison import spread_queries
from reid_train.figures.page.views import RunView
from reid_train.figures.paper.asked import Asked, Drawn, no_such_image
from reid_train.figures.paper.captions import conditions, names
from reid_train.figures.ranked_lists import Match

QUERIES = 2
TOP = {"one": 5, "two": 10}


def chosen_queries(asked: Asked, usual: int) -> list[str]:
    """Keys of the queries that were named, or of as many as were asked for (``usual`` by default):
    evenly spread over all that count, of different people. Raises ReidpipeError for a key that is
    none of the protocol's queries.
    """
    first = asked.views[0]
    if asked.queries is None or isinstance(asked.queries, int):
        rows = spread_queries(asked.views, first.pictures, asked.queries or usual)
        return [row.key for row in rows]
    known = set(first.ranking.query_keys.tolist())
    for key in asked.queries:
        if key not in known:
            where = f"query of {first.metrics['dataset']} {first.metrics['protocol']}"
            raise no_such_image(key, where, str(first.ranking.query_keys[0]))
    return list(dict.fromkeys(asked.queries))


def choice(asked: Asked, shown: Sequence[str], kind: str = "queries") -> str:
    """How the images that are shown were chosen, and which these are."""
    how = "evenly spread over the order of their keys, whatever their results"
    named = asked.queries is not None and not isinstance(asked.queries, int)
    return f"{kind} {names(shown)}, {'chosen by hand' if named else how}"


def draw(asked: Asked) -> Drawn:
    """Each query's best matches by every run."""
    keys = chosen_queries(asked, QUERIES)
    top = asked.top or TOP[asked.width]
    rows = [
        _list(view, key, top, named=len(asked.views) > 1) for key in keys for view in asked.views
    ]
    told = f"The first {top} matches; frame and sign + right, x wrong; number: similarity; "
    told += choice(asked, keys)
    return Drawn(ranked(rows, width=asked.width), f"{told}; {conditions(asked.views)}")


def _list(view: RunView, key: str, top: int, *, named: bool) -> RankedList:
    ranking, pictures = view.ranking, view.pictures
    query = int(np.flatnonzero(ranking.query_keys == key)[0])
    shown = np.flatnonzero((ranking.indices[query] >= 0) & ~ranking.junk[query])[:top]
    matches = [
        Match(
            pictures.shown(str(ranking.gallery_keys[ranking.indices[query, place]])),
            float(ranking.similarities[query, place]),
            "right" if ranking.correct[query, place] else "wrong",
        )
        for place in shown
    ]
    return RankedList(pictures.shown(key), matches, view.name if named else "")
