"""``run --vary KEY=A,B``: a setting each of whose values is a row of the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe.files import place_of, value_of
from reid_train.recipe.schema import Recipe


def read_variations(
    texts: Iterable[str],
    settings: Sequence[str] = (),
    recipes: Iterable[Recipe] = (),
    typed: Sequence[str] = (),
) -> list[tuple[str, ...]]:
    """``["a=1,2", "b=3,4"]`` -> every combination of the values as texts of ``--set``, the first
    changing slowest; of nothing the one that is empty.

    settings: of ``--set``, none of which may be of the same keys, however ``recipes`` let them be
    typed; typed: of the last of them, how they were typed otherwise. Raises ReidpipeError.
    """
    contents = [recipe.model_dump(mode="json") for recipe in recipes] or [{}]
    own = len(settings) - len(typed)
    said = [(text, f"--set {text}") for text in settings[:own]]
    said += list(zip(settings[own:], typed, strict=True))
    axes: list[list[str]] = []
    for text in texts:
        key, separator, values = text.partition("=")
        found = _once(key, values)
        if not key or not separator or not all(found) or len(found) < 2:
            raise ReidpipeError(
                f"found --vary {text}; expected KEY=A,B with two values or more; type --vary "
                "stages.image.epochs=8,24, or --set for one value"
            )
        for other, shown in said:
            if any(_replaces(key, other.partition("=")[0], content) for content in contents):
                raise ReidpipeError(
                    f"found --vary {text} and {shown} beside it; expected each key once; leave one "
                    "out"
                )
        said.append((text, f"--vary {key}"))
        axes.append([f"{key}={value}" for value in found])
    return list(product(*axes))


def _replaces(key: str, other: str, content: dict[str, Any]) -> bool:
    """Whether setting ``key`` leaves nothing of what ``other`` was set to: it is the same place, or
    holds it.
    """
    place = place_of(content, key)
    return place_of(content, other)[: len(place)] == place


def _once(key: str, values: str) -> list[str]:
    """The values as typed, of those that say the same (0.001, 1e-3) the first."""
    found: dict[str, str] = {}
    for value in map(str.strip, _split(values)):
        found.setdefault(repr(value_of(key, value)), value)
    return list(found.values())


def _split(text: str) -> list[str]:
    """At commas that are not within a list or a mapping."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
