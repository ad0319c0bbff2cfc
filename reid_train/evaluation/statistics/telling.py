"""How sure figures are, as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_train.evaluation.statistics.stored import MEASURES, StoredStatistics

TOLD = ("mAP", "Rank-1", "Rank-5", "Rank-10", "mINP")


def interval_line(folder: Path, metrics: Mapping[str, Any]) -> str:
    """The figures of ``metrics`` (of ``metrics.json`` or its ``rerank``) with their intervals, in
    percent. folder: of the evaluation, whose ``statistics.json`` says over how many people.
    """
    stored = StoredStatistics.read(folder)
    found = metrics.get("intervals")
    if found is None or stored.resampling is None:
        return f"no interval: {stored.why.get('intervals', 'none was made')}"
    figures = {name: metrics[name] for name in MEASURES if name in metrics}
    figures |= {f"Rank-{rank}": share for rank, share in metrics["cmc"].items()}
    told = ", ".join(
        f"{name} {100 * figures[name]:.1f} {_percent(found[name])}"
        for name in TOLD
        if found.get(name) and name in figures
    )
    level, people = stored.resampling.level, stored.resampling.people
    return f"{100 * level:g} % over {people} people: {told}"


def warning(metrics: Mapping[str, Any], name: str) -> str | None:
    """One line where a mAP is not beyond chance, else None: where its interval over identities
    reaches what a random ranking gives, or, without an interval, where it is not above that.
    metrics: content of ``metrics.json``; name: the run's.
    """
    chance = (metrics.get("chance") or {}).get("mAP")
    if chance is None:
        return None
    interval = (metrics.get("intervals") or {}).get("mAP")
    if (interval[0] if interval else metrics["mAP"]) > chance:
        return None
    ends = f" {_percent(interval)}" if interval else ""
    return (
        f"warning: mAP {100 * metrics['mAP']:.1f}{ends} of {name} cannot be told from "
        f"{100 * chance:.1f}, which a random ranking gives: the weights, the preprocessing or the "
        f"labels may be wrong, or the people too few; type reidpipe report {name} to look at "
        "ranked lists"
    )


def _percent(interval: list[float]) -> str:
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
