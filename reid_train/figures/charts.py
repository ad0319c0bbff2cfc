"""Charts of the report: training curves and similarity histograms, as SVG."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_train.models import COSINE

RIGHT, WRONG = "#168c3c", "#c81e28"


def read_epochs(log: Path) -> list[dict[str, Any]]:
    """The lines of ``log.jsonl`` that close an epoch, in order.

    A last line that a killed process left unfinished is no line yet and is passed over.
    """
    epochs = []
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            entry = json.loads(line)
            if entry.get("event") == "epoch":
                epochs.append(entry)
    return epochs


def training_curves(runs: Mapping[str, list[dict[str, Any]]]) -> str:
    """Mean loss per epoch: SVG text, one panel per stage, one line per run.

    runs: name -> entries of ``read_epochs``. Stages have losses of different scales, hence a
    panel each; stages without an epoch are left out.
    """
    stages = list(dict.fromkeys(entry["stage"] for log in runs.values() for entry in log))
    figure, axes = panels(len(stages))
    for axis, stage in zip(axes, stages, strict=True):
        for name, log in runs.items():
            points = [entry for entry in log if entry["stage"] == stage]
            if points:
                axis.plot(
                    [entry["epoch"] + 1 for entry in points],
                    [entry["loss"] for entry in points],
                    marker="o" if len(points) < 30 else None,
                    markersize=3,
                    label=name,
                )
        axis.set_title(stage, fontsize=9)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mean loss")
    if len(runs) > 1:
        axes[0].legend(fontsize=7)
    return svg(figure)


def similarity_histogram(threshold: Mapping[str, Any]) -> str:
    """Shares of same-person and different-person pairs by their similarity: SVG text.

    threshold: the content of ``threshold.json``.
    """
    histogram = threshold["histogram"]
    edges = histogram["edges"]
    figure, (axis,) = panels(1)
    for kind, colour, title in (
        ("different", WRONG, "different people"),
        ("same", RIGHT, "same person"),
    ):
        total = max(1, sum(histogram[kind]))
        shares = [count / total for count in histogram[kind]]
        axis.stairs(shares, edges, fill=True, alpha=0.45, color=colour, label=title)
    if threshold["threshold"] is not None:
        axis.axvline(threshold["threshold"], color="#222", linewidth=1, linestyle="--")
    used = [
        place
        for place, counts in enumerate(zip(histogram["same"], histogram["different"], strict=True))
        if any(counts)
    ]
    if used:
        margin = (edges[-1] - edges[0]) / 100
        axis.set_xlim(edges[used[0]] - margin, edges[used[-1] + 1] + margin)
    name = threshold.get("similarity", COSINE)
    axis.set_xlabel("cosine similarity" if name == COSINE else name)
    axis.set_ylabel("share of pairs")
    axis.legend(fontsize=8)
    return svg(figure)


def panels(count: int, *, size: tuple[float, float] = (4.2, 2.8)) -> tuple[Any, Any]:
    """A figure with ``count`` axes in a row, at least one, each ``size`` inches (width, height)."""
    # The object interface: no display, no global figure list.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * max(1, count), size[1]), layout="constrained")
    return figure, figure.subplots(1, max(1, count), squeeze=False)[0]


def svg(figure: Any) -> str:
    """The figure as SVG text; equal figures give equal text."""
    import matplotlib

    stream = io.StringIO()
    # A fixed salt and no date.
    with matplotlib.rc_context({"svg.hashsalt": "reidpipe", "font.size": 8}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
