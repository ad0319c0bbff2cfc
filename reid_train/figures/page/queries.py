"""Sections on single queries: the hardest and what they were taken for, those that runs differ on,
and who is confused with whom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reid_train.figures.page.groups import by_kind
from reid_train.figures.page.inline import image_uri, small
from reid_train.figures.page.section import Section
from reid_train.figures.page.views import RunView

SHOWN = 10
WORST, BEST = 4, 3
CHANGED = 2
CONFUSED, PICTURED = 12, 4


def hardest(views: Sequence[RunView]) -> Section:
    """The valid queries of least AP with the beginning of their ranking, and some of the best."""
    runs = [
        {
            "name": view.name,
            "similarity": view.threshold.get("similarity", "cosine"),
            "exclude": view.metrics["exclude"],
            "trials": view.protocol.get("trials") or 1,
            "groups": _groups(view),
        }
        for view in views
    ]
    return Section("queries", "Hardest queries", {"runs": runs})


def _groups(view: RunView) -> list[dict[str, Any]]:
    ranking = view.ranking
    valid = np.flatnonzero(ranking.valid)
    order = valid[np.argsort(ranking.ap[valid], kind="stable")]
    worst, best = order[:WORST], order[WORST:][::-1][:BEST]
    return [
        {"title": word, "strips": [strip(view, int(query)) for query in chosen]}
        for word, chosen in (("Hardest", worst), ("Easiest", best))
        if len(chosen)
    ]


def strip(view: RunView, query: int) -> dict[str, Any]:
    """A query and the first images of its ranking, those that the rule hides left out."""
    ranking, pictures = view.ranking, view.pictures
    key = str(ranking.query_keys[query])
    places = np.flatnonzero((ranking.indices[query] >= 0) & ~ranking.junk[query])
    right = np.flatnonzero(ranking.correct[query, places])
    matches = []
    for place in places[:SHOWN]:
        found = str(ranking.gallery_keys[ranking.indices[query, place]])
        matches.append(
            {
                "key": found,
                "whose": pictures.whose(found),
                "verdict": "right" if ranking.correct[query, place] else "wrong",
                "similarity": float(ranking.similarities[query, place]),
                "picture": _thumb(view, found),
            }
        )
    return {
        "key": key,
        "whose": pictures.whose(key),
        "ap": float(ranking.ap[query]),
        "picture": _thumb(view, key),
        "matches": matches,
        "first_right": int(right[0]) + 1 if len(right) else None,
        "looked_at": len(places),
    }


def _thumb(view: RunView, key: str) -> str:
    return image_uri(small(view.pictures.shown(key)))


def differences(views: Sequence[RunView]) -> Section | None:
    """Queries whose AP differs most between the first and the last of several runs."""
    first, last = views[0], views[-1]
    if len(views) < 2 or first.question != last.question:
        return None
    places = {str(key): place for place, key in enumerate(last.ranking.query_keys)}
    pairs = [
        (place, places[str(key)])
        for place, key in enumerate(first.ranking.query_keys)
        if str(key) in places
        and first.ranking.valid[place]
        and last.ranking.valid[places[str(key)]]
    ]
    if not pairs:
        return None
    gains = np.array([last.ranking.ap[b] - first.ranking.ap[a] for a, b in pairs])
    order = np.argsort(-gains, kind="stable")
    chosen = [n for n in order[:CHANGED] if gains[n] > 0]
    chosen += [n for n in order[-CHANGED:] if gains[n] < 0]
    changes = [
        {
            "gain": float(gains[number]),
            "strips": [
                {"run": view.name, **strip(view, query)}
                for view, query in zip((first, last), pairs[number], strict=True)
            ],
        }
        for number in chosen
    ]
    content = {
        "changes": changes,
        "kinds": by_kind(first, [a for a, _ in pairs], gains),
        "first": first.name,
        "last": last.name,
        "better": int((gains > 0).sum()),
        "worse": int((gains < 0).sum()),
        "queries": len(gains),
    }
    return Section("differences", "Where runs differ", content)


def confusions(views: Sequence[RunView]) -> Section | None:
    """Pairs of people of whom one was taken for the other at rank 1, most frequent first; None
    where all evaluations are of an older version, which the first screen says.
    """
    if all(view.statistics is None for view in views):
        return None
    runs = []
    for view in views:
        found = view.statistics.confusions if view.statistics is not None else None
        shown = [
            {
                "pid": pair.pid,
                "taken_for": pair.taken_for,
                "queries": pair.queries,
                "pictures": _pictures(view, pair.pid, pair.taken_for) if n < PICTURED else [],
            }
            for n, pair in enumerate((found or [])[:CONFUSED])
        ]
        why = "" if view.statistics is None else view.statistics.why.get("confusions", "")
        runs.append(
            {
                "name": view.name,
                "known": found is not None,
                "old": view.statistics is None,
                "why": why,
                "pairs": shown,
                "more": len(found or []) - len(shown),
            }
        )
    return Section("confusions", "Confused identities", {"runs": runs})


def _pictures(view: RunView, pid: int, taken_for: int) -> list[dict[str, str]]:
    """A query of one person and the wrong image of the other that stands first in its ranking."""
    ranking, rows = view.ranking, view.pictures.rows
    for query, name in enumerate(ranking.query_keys):
        if rows[str(name)].pid != pid:
            continue
        seen = np.flatnonzero((ranking.indices[query] >= 0) & ~ranking.junk[query])
        if len(seen):
            match = str(ranking.gallery_keys[ranking.indices[query, seen[0]]])
            if rows[match].pid == taken_for:
                return [
                    {"key": key, "told": view.pictures.whose(key), "picture": _thumb(view, key)}
                    for key in (str(name), match)
                ]
    return []
