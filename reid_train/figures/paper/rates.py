"""CMC, ROC and DET curves and histograms of similarities, of evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.charts.cmc import TOP, cmc
from reid_train.figures.charts.det import det
from reid_train.figures.charts.histogram import histogram
from reid_train.figures.charts.roc import roc
from reid_train.figures.paper.asked import Asked, Drawn
from reid_train.figures.paper.captions import bands, conditions


def draw_cmc(asked: Asked) -> Drawn:
    """CMC of every run."""
    top = asked.top or TOP
    figure = cmc(_curves(asked, "cmc"), top=top, width=asked.width)
    about = "CMC: share of queries with a right match among the first ranks; "
    return Drawn(figure, about + conditions(asked.views) + bands(asked.views, "cmc"))


def draw_roc(asked: Asked) -> Drawn:
    """ROC of every run."""
    return _of_pairs(asked, roc, "ROC: pairs of one person accepted against pairs of two people; ")


def draw_det(asked: Asked) -> Drawn:
    """DET of every run."""
    about = "DET: false non-matches against false matches, normal deviates; "
    return _of_pairs(asked, det, about, " Grey line: equal error rates.")


def _of_pairs(asked: Asked, chart: Callable[..., Any], about: str, more: str = "") -> Drawn:
    figure = chart(_curves(asked, "roc"), width=asked.width)
    told = about + conditions(asked.views) + _pairs(asked) + bands(asked.views, "roc") + more
    return Drawn(figure, told)


def _pairs(asked: Asked) -> str:
    """Which pairs are counted."""
    first = any((view.protocol.get("trials") or 1) > 1 for view in asked.views)
    which = " of the first trial" if first else ""
    return f" Pairs of a query and a gallery image{which} that the protocol does not exclude."


def _curves(asked: Asked, kind: str) -> dict[str, dict[str, Any]]:
    found = {}
    for view in asked.views:
        curve = getattr(view.statistics, kind, None)
        if curve is None:
            why = (view.statistics.why.get(kind) if view.statistics else None) or "not computed"
            raise ReidpipeError(
                f"found no {kind.upper()} curve of {view.name}: {why.rstrip('.')}; expected an "
                "evaluation that has one; type another --protocol or leave that run out"
            )
        found[view.name] = curve.model_dump()
    return found


def draw_histogram(asked: Asked) -> Drawn:
    """Similarities of pairs, a panel per run."""
    found = {}
    for view in asked.views:
        if not any(view.threshold["histogram"]["same"] + view.threshold["histogram"]["different"]):
            raise ReidpipeError(
                f"found no pair that {view.name} was evaluated on; expected queries and gallery "
                "images that the protocol compares; type another --protocol"
            )
        found[view.name] = view.threshold
    told = "Similarities of pairs of one person and of two people, each as shares of its own kind; "
    told += conditions(asked.views) + _pairs(asked)
    if any(value.get("side_information") for value in found.values()):
        told += " The models' tables of cameras and views are left out."
    pairs = [
        f"{name}: {counts['same']} and {counts['different']} pairs"
        for name, value in found.items()
        if (counts := value.get("pairs"))
    ]
    if pairs:
        told += f" {'; '.join(pairs)}."
    return Drawn(histogram(found, width=asked.width), told)
