"""Sentences below a figure: what its numbers depend on."""

from __future__ import annotations

from collections.abc import Sequence

from reid_train.figures.page.views import RunView


def names(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def conditions(views: Sequence[RunView]) -> str:
    """The conditions of all runs; where they differ, whose they are."""
    told: dict[str, list[str]] = {}
    for view in views:
        told.setdefault(view.conditions, []).append(view.name)
    if len(told) == 1:
        return f"{next(iter(told))}."
    return "; ".join(f"{names(who)}: {line}" for line, who in told.items()) + "."


def bands(views: Sequence[RunView], curve: str) -> str:
    """What the bands of the curve called ``curve`` in statistics.json are, and which runs have none
    and why.
    """
    drawn, without = [], []
    for view in views:
        found = view.statistics
        lines = getattr(found, curve, None)
        if found is not None and lines is not None and lines.low is not None and found.resampling:
            drawn.append(found.resampling)
        else:
            why = found and (found.why.get(f"{curve}.low") or found.why.get("intervals"))
            without.append(f"{view.name} has no interval" + (f" ({why})" if why else ""))
    sentences = []
    if drawn:
        how = drawn[0]
        sentences.append(
            f"Bands: {100 * how.level:g} % intervals, bootstrap over {how.people} identities, "
            f"{how.draws} draws"
        )
    return "".join(f" {sentence}." for sentence in [*sentences, *without])
