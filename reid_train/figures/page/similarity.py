"""Sections on the features: which similarity means the same person, and a map of the gallery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reid_train.evaluation.embeddings import load_features
from reid_train.figures.charts.histogram import histogram
from reid_train.figures.charts.saving import svg
from reid_train.figures.embedding_map import choose, embedding_map
from reid_train.figures.page.inline import chart
from reid_train.figures.page.section import Section
from reid_train.figures.page.views import RunView

# Of threshold.json; older ones lack some.
SHOWN = ("points", "pairs", "threshold")


def thresholds(views: Sequence[RunView]) -> Section:
    """Histograms of similarities and the operating points of each run."""
    runs = [
        {
            "name": view.name,
            "picture": chart(
                svg(histogram({"": view.threshold})),
                f"similarity{number}",
                f"Histogram of similarities of {view.name}: pairs of one person beside pairs of "
                "different people",
            ),
            "threshold": {name: view.threshold.get(name) for name in SHOWN},
        }
        for number, view in enumerate(views)
    ]
    return Section("similarity", "Which similarity means the same person", {"runs": runs})


def features(views: Sequence[RunView]) -> Section | None:
    """Gallery features of each run by t-SNE; None where every gallery is too small."""
    runs = [
        {"name": view.name, "picture": picture}
        for number, view in enumerate(views)
        if (picture := _map(view, f"features{number}")) is not None
    ]
    return Section("features", "Gallery features", {"runs": runs}) if runs else None


def _map(view: RunView, name: str) -> Any:
    found, keys = load_features(view.evaluation)
    gallery = set(view.ranking.gallery_keys.tolist())
    places = [place for place, key in enumerate(keys) if key in gallery]
    pids = [view.pictures.rows[keys[place]].pid or 0 for place in places]
    chosen = choose(pids)
    if not chosen:
        return None
    rows = found[[places[number] for number in chosen]]
    drawn = embedding_map(rows, [pids[number] for number in chosen], width="one")
    return chart(drawn, name, f"t-SNE of gallery features of {view.name}, a colour per identity")
