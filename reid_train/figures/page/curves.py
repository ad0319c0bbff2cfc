"""Section "Curves": CMC and ROC with their intervals; section "Training": every stage's losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_train.figures.charts.cmc import cmc
from reid_train.figures.charts.curves import curves, read_log
from reid_train.figures.charts.roc import roc
from reid_train.figures.charts.saving import svg
from reid_train.figures.page.inline import chart
from reid_train.figures.page.section import Section
from reid_train.figures.page.views import RunView

LOG = "log.jsonl"
_DRAWN: dict[str, tuple[str, str, Callable[[Mapping[str, Any]], Any]]] = {
    "cmc": (
        "CMC",
        "Share of queries that have a right match among the first images of their ranking.",
        cmc,
    ),
    "roc": (
        "ROC",
        "Share of pairs of one person that a threshold accepts, against the share of pairs of two "
        "people that it accepts too.",
        roc,
    ),
}


def rates(views: Sequence[RunView]) -> Section | None:
    """None where no evaluation has either curve for a reason that is not worth a section."""
    drawn, missing = [], []
    for kind, (title, told, draw) in _DRAWN.items():
        found = {
            view.name: curve.model_dump()
            for view in views
            if view.statistics is not None and (curve := getattr(view.statistics, kind)) is not None
        }
        if found:
            names = ", ".join(found)
            drawn.append(
                {
                    "title": title,
                    "told": told,
                    "picture": chart(svg(draw(found)), kind, f"{title} of {names}"),
                    "bands": any(curve["low"] is not None for curve in found.values()),
                }
            )
        missing += [_why_not(view, title, kind) for view in views if view.name not in found]
    rows = [row for view in views for row in _accepted(view)]
    level = next((v.statistics.resampling.level for v in views
                  if v.statistics and v.statistics.resampling), None)  # fmt: skip
    content = {"charts": drawn, "missing": missing, "accepted": rows, "level": level}
    return Section("curves", "CMC and ROC", content)


def _why_not(view: RunView, title: str, kind: str) -> str:
    if view.statistics is None:
        return (
            f"{view.name} has no {title} curve: it was evaluated by an older version; type "
            f"reidpipe eval {view.name}"
        )
    why = view.statistics.why.get(kind, "it could not be computed")
    return f"{view.name} has no {title} curve: {why}"


def _accepted(view: RunView) -> list[dict[str, Any]]:
    """True positive rates at the false positive rates people ask for."""
    found = view.statistics.tpr_at_fpr if view.statistics is not None else None
    return [
        {"run": view.name, "fpr": float(rate), "tpr": point.value, "interval": point.interval}
        for rate, point in (found or {}).items()
    ]


def training(views: Sequence[RunView]) -> Section | None:
    """A chart per stage and, where it was evaluated on the way, one of its validation; None without
    any log, as of imported models.
    """
    logs = {view.name: _entries(view) for view in views}
    panels = dict.fromkeys(
        (entry["stage"], entry["event"])
        for event in ("epoch", "validation")
        for log in logs.values()
        for entry in log
        if entry.get("event") == event and "stage" in entry
    )
    drawn = []
    for number, (stage, event) in enumerate(panels):
        shown = {
            name: [e for e in log if e.get("event") == event and e.get("stage") == stage]
            for name, log in logs.items()
        }
        what = "mean loss" if event == "epoch" else "validation mAP"
        told = f"{what} per epoch of stage {stage}"
        drawn.append(chart(svg(curves(shown, width="one")), f"training{number}", told))
    if not drawn:
        return None
    without = [name for name, log in logs.items() if not log]
    return Section("training", "Training", {"charts": drawn, "without": without})


def _entries(view: RunView) -> list[dict[str, Any]]:
    """Lines of the logs of all stages, in the order of training."""
    folders: list[Path] = [*view.earlier, *([view.model] if view.model else [])]
    return [
        entry for folder in folders if (folder / LOG).is_file() for entry in read_log(folder / LOG)
    ]
