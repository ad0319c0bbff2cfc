"""The first screen: how good, under which protocol, and is the difference more than noise?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reid_train.evaluation.results import MEASURES, measures
from reid_train.evaluation.statistics.differences import COMPARED
from reid_train.evaluation.statistics.telling import warning
from reid_train.figures.page.section import Section
from reid_train.figures.page.verdict import foremost, notes, pairs
from reid_train.figures.page.views import RunView


def summary(views: Sequence[RunView]) -> Section:
    """Tiles of the best run, the verdict between runs, a table of all with intervals."""
    same = len({view.question for view in views}) == 1
    best = max(views, key=lambda view: view.metrics["mAP"]) if same else None
    lines = [_line(view) for view in views]
    tested = pairs(views)
    conditions = list(dict.fromkeys(view.conditions for view in views))
    content = {
        "runs": lines,
        "best": _best(lines) if same and len(views) > 1 else {},
        "top": None if best is None else lines[list(views).index(best)],
        "same": same,
        "conditions": conditions,
        "measures": MEASURES,
        "level": _level(views),
        "resampling": _resampling(views),
        "old": [view.name for view in views if view.statistics is None],
        "missing": _missing(views),
        "verdicts": foremost(tested, views),
        "warnings": [
            line.removeprefix("warning: ").partition("; type ")[0]  # which is this page
            for view in views
            if (line := warning(view.metrics, view.name)) is not None
        ],
        "pairs": [pair for pair in tested if pair.tested],
        "paired": COMPARED,
        "notes": notes(tested),
        "chance": any(line["chance"] is not None for line in lines),
    }
    return Section("summary", "Results", content)


def _line(view: RunView) -> dict[str, Any]:
    metrics, known = view.metrics, view.statistics
    again = metrics.get("rerank")
    return {
        "name": view.name,
        "figures": measures(metrics),
        "intervals": {} if known is None else known.intervals or {},
        "chance": None if known is None else (known.chance or {}).get("mAP"),
        "queries": metrics["valid_queries"],
        "gallery": metrics["gallery"],
        "conditions": view.conditions,
        "rerank": again and {"intervals": {}, **again, "figures": measures(again)},
    }


def _best(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The best of comparable runs only: another dataset or protocol is another question."""
    return {name: max(line["figures"][name] for line in lines) for name in MEASURES}


def _level(views: Sequence[RunView]) -> float | None:
    found = [v.statistics.resampling for v in views if v.statistics and v.statistics.resampling]
    return found[0].level if found else None


def _resampling(views: Sequence[RunView]) -> str:
    """How the intervals were made."""
    found = [v.statistics.resampling for v in views if v.statistics and v.statistics.resampling]
    if not found:
        return ""
    people = sorted({drawn.people for drawn in found})
    return (
        f"{100 * found[0].level:g} % intervals by bootstrap over identities: "
        f"{found[0].draws} draws of {' or '.join(map(str, people))} people"
    )


def _missing(views: Sequence[RunView]) -> list[str]:
    """Why a run of this version has no intervals."""
    return [
        f"{view.name} has no intervals: {view.statistics.why.get('intervals', 'unknown')}"
        for view in views
        if view.statistics is not None and view.statistics.intervals is None
    ]
