"""Section "Provenance": what made the numbers, to make them again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from reid_train.figures.page.section import Section
from reid_train.figures.page.views import RunView
from reid_train.models import COSINE

TYPED = ("trained by", "evaluated by")  # commands, broken between words alone


def provenance(views: Sequence[RunView]) -> Section:
    """One table: a column per run; what all runs have in common is said once."""
    told = [_told(view) for view in views]
    names = list(dict.fromkeys(name for rows in told for name in rows))
    rows = []
    for name in names:
        values = [rows.get(name, "\u2013") for rows in told]
        same = len(views) > 1 and len(set(values)) == 1
        shown = values[:1] if same else values
        rows.append({"name": name, "values": shown, "same": same, "typed": name in TYPED})
    return Section("provenance", "Provenance", {"runs": [v.name for v in views], "rows": rows})


def _told(view: RunView) -> dict[str, str]:
    metrics, about = view.metrics, view.protocol
    rows: dict[str, Any] = {
        "recipe": metrics.get("recipe") or "unknown",
        "seed": "unknown" if metrics.get("seed") is None else metrics["seed"],
        **view.provenance,
        "evaluated by": _command(view),
        "evaluation": view.evaluation.name,
        **about["inputs"],
        **({"maps": view.maps.name} if view.maps else {}),
        "re-ranking": about.get("rerank") or "none",
        "protocol": (about.get("definition") or {}).get("note") or metrics["protocol"],
        "versions": metrics.get("versions") or {},
    }
    return {name: _text(value) for name, value in rows.items()}


def _command(view: RunView) -> str:
    """What makes the evaluation again."""
    metrics, about = view.metrics, view.protocol
    # Imported models have no run's name; their key finds them.
    words = [
        "reidpipe",
        "eval",
        about["inputs"].get("model", "") if " " in view.name else view.name,
    ]
    if metrics["dataset"] != view.provenance.get("trained on"):
        words += ["--dataset", metrics["dataset"]]
    words += ["--protocol", metrics["protocol"], "--exclude", metrics["exclude"]]
    words += ["--distance", metrics.get("distance") or COSINE]
    words += ["--feature", about["feature"]] if about.get("feature") else []
    words += ["--flip"] if about["flip"] else []
    words += ["--rerank"] if about.get("rerank") else []
    return shlex.join(words)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
