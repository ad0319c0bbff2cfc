"""Histograms of similarities: pairs of one person beside pairs of two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reid_train.figures.charts.style import INK, RIGHT, WRONG, Width, panels, styled
from reid_train.models import COSINE


def histogram(runs: Mapping[str, Mapping[str, Any]], *, width: Width = "one") -> Any:
    """A matplotlib figure, a panel per run: shares of pairs by their similarity, those of different
    people filled, those of one person hatched; the threshold as a line.

    runs: name -> the content of ``threshold.json``.
    """
    with styled():
        figure, axes = panels(len(runs), width=width, height=2.0)
        shapes: list[Any] = []
        for axis, (name, threshold) in zip(axes, runs.items(), strict=True):
            shapes = _draw(axis, threshold)
            if len(runs) > 1:
                axis.set_title(name)
        if shapes:
            figure.legend(
                shapes, [shape.get_label() for shape in shapes], loc="outside lower center",
                ncols=1 if width == "one" else 3,
            )  # fmt: skip
    return figure


def _draw(axis: Any, threshold: Mapping[str, Any]) -> list[Any]:
    """One panel; its shapes for the legend."""
    counts = threshold["histogram"]
    edges = counts["edges"]
    shapes = []
    for kind, colour, hatch, title in (
        ("different", WRONG, None, "pairs of different people"),
        ("same", RIGHT, "////", "pairs of one person"),
    ):
        total = max(1, sum(counts[kind]))
        shares = [100 * count / total for count in counts[kind]]
        shapes.append(
            axis.stairs(
                shares, edges, fill=True, alpha=0.5, facecolor=colour, edgecolor=colour,
                hatch=hatch, label=title, linewidth=0.5,
            )
        )  # fmt: skip
    if threshold.get("threshold") is not None:
        rate = threshold.get("threshold_fpr")
        shapes.append(
            axis.axvline(
                threshold["threshold"], color=INK, linewidth=1, linestyle="--",
                label="threshold" + (f" at FPR {100 * rate:g} %" if rate is not None else ""),
            )
        )  # fmt: skip
    used = [
        place
        for place, pair in enumerate(zip(counts["same"], counts["different"], strict=True))
        if any(pair)
    ]
    if used:
        margin = (edges[-1] - edges[0]) / 100
        axis.set_xlim(edges[used[0]] - margin, edges[used[-1] + 1] + margin)
    kind = threshold.get("similarity") or COSINE
    axis.set_xlabel("cosine similarity" if kind == COSINE else kind)
    axis.set_ylabel("share of pairs (%)")
    return shapes
