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
    """None where all evaluations are of an older version, which the first screen says."""
    if all(view.statistics is None for view in views):
        return None
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
        missing += [
            f"{view.name} has no {title} curve: {view.statistics.why.get(kind, 'unknown')}"
            for view in views
            if view.statistics is not None and view.name not in found
        ]
    level = next((v.statistics.resampling.level for v in views
                  if v.statistics and v.statistics.resampling), None)  # fmt: skip
    content = {"charts": drawn, "missing": missing, "accepted": _accepted(views), "level": level}
    return Section("curves", "CMC and ROC", content)


def _accepted(views: Sequence[RunView]) -> dict[str, Any] | None:
    """True positive rates at the false positive rates people ask for: a row per run."""
    found = {
        view.name: {float(rate): point for rate, point in view.statistics.tpr_at_fpr.items()}
        for view in views
        if view.statistics is not None and view.statistics.tpr_at_fpr
    }
    rates = sorted({rate for points in found.values() for rate in points}, reverse=True)
    rows = [
        {"run": name, "points": [points.get(rate) for rate in rates]}
        for name, points in found.items()
    ]
    return {"rates": rates, "rows": rows} if rows else None


def training(views: Sequence[RunView]) -> Section | None:
    """A chart per stage and, where it was evaluated on the way, one of its validation; None without
    any log, as of imported models.
    """
    logs = {view.name: _entries(view) for view in views}
    # The run with the most lines knows the order of the stages best.
    longest = sorted(logs.values(), key=len, reverse=True)
    panels = dict.fromkeys(
        (entry["stage"], entry["event"])
        for event in ("epoch", "validation")
        for log in longest
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
