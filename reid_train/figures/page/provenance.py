"""Section "Provenance": what made the numbers, to make them again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from reid_train.figures.page.section import Section
from reid_train.figures.page.views import RunView


def provenance(views: Sequence[RunView]) -> Section:
    """A table per run: commands, keys, weights, versions."""
    runs = [{"name": view.name, "rows": _rows(view)} for view in views]
    return Section("provenance", "Provenance", {"runs": runs})


def _rows(view: RunView) -> list[tuple[str, str]]:
    metrics, about = view.metrics, view.protocol
    rows: dict[str, Any] = {
        "recipe": metrics["recipe"],
        "seed": "unknown" if metrics["seed"] is None else metrics["seed"],
        "evaluation": view.evaluation.name,
        **about["inputs"],
        **({"maps": view.maps.name} if view.maps else {}),
        "re-ranking": about["rerank"] or "none",
        "protocol": about["definition"].get("note") or metrics["protocol"],
        "versions": metrics["versions"],
        **view.provenance,
    }
    return [(name, _text(value)) for name, value in rows.items()]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value)
