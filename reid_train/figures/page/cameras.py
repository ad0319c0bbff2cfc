"""Section "Cameras": how well the queries of one camera are found among the images of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reid_train.evaluation.statistics.stored import CameraPair
from reid_train.figures.page.section import Section
from reid_train.figures.page.views import RunView


def cameras(views: Sequence[RunView]) -> Section | None:
    """A heat map per run; None where all evaluations are of an older version, which the first
    screen says.
    """
    if all(view.statistics is None for view in views):
        return None
    runs = []
    for view in views:
        known = view.statistics
        pairs = known.camera_pairs if known is not None else None
        runs.append(
            {
                "name": view.name,
                "old": known is None,
                "why": "" if known is None else known.why.get("camera_pairs", ""),
                "columns": sorted({pair.gallery for pair in pairs or []}),
                "rows": _rows(pairs or []),
            }
        )
    return Section("cameras", "Cameras", {"runs": runs})


def _rows(pairs: Sequence[CameraPair]) -> list[dict[str, Any]]:
    """A row per query camera; its cells by gallery camera, None where no query has a match."""
    found = {(pair.query, pair.gallery): pair for pair in pairs}
    columns = sorted({gallery for _, gallery in found})
    return [
        {
            "camera": query,
            "cells": [_cell(found.get((query, gallery))) for gallery in columns],
        }
        for query in sorted({query for query, _ in found})
    ]


def _cell(pair: CameraPair | None) -> dict[str, Any] | None:
    if pair is None or not pair.queries:
        return None
    return {
        "mAP": pair.mAP,
        "rank1": pair.rank1,
        "queries": pair.queries,
        "interval": (pair.intervals or {}).get("mAP"),
    }
