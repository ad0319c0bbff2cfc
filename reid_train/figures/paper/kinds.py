"""The kinds of figures there are."""

from __future__ import annotations

from reid_train.figures.paper import activations, differences, lists, maps, parts, rates, training
from reid_train.figures.paper.asked import Kind

QUERY, TOP = "--query", "--top"

KINDS = {
    "cmc": Kind("CMC", rates.draw_cmc, options=frozenset({TOP}), width="one"),
    "roc": Kind("ROC", rates.draw_roc, width="one"),
    "det": Kind("DET", rates.draw_det, width="one"),
    "curves": Kind("Training curves", training.draw, training.steps, evaluated=False),
    "differences": Kind("Differences", differences.draw, rows=True, width="one"),
    "histogram": Kind("Similarities", rates.draw_histogram, width="one"),
    "ranked": Kind(
        "Ranked lists", lists.draw, options=frozenset({QUERY, TOP}), pictures=True
    ),
    "activations": Kind(
        "Activation maps",
        activations.draw,
        activations.steps,
        options=frozenset({QUERY}),
        pictures=True,
    ),
    "parts": Kind("Features by body part", parts.draw, parts.steps),
    "maps": Kind(
        "Label maps",
        maps.draw,
        maps.steps,
        evaluated=False,
        options=frozenset({QUERY}),
        pictures=True,
    ),
}  # fmt: skip
