"""``run --vary KEY=A,B``: a setting each of whose values is a row of the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from pipeline.terminal.errors import ReidpipeError


def read_variations(texts: Iterable[str], settings: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """``["a=1,2", "b=3,4"]`` -> every combination of the values as texts of ``--set``, the first
    changing slowest; of nothing the one that is empty.

    settings: of ``--set``, none of which may say one of the same keys. Raises ReidpipeError.
    """
    axes: dict[str, list[str]] = {}
    for text in texts:
        key, separator, values = text.partition("=")
        found = list(dict.fromkeys(value.strip() for value in _split(values)))
        if not key or not separator or not all(found) or len(found) < 2:
            raise ReidpipeError(
                f"found --vary {text}; expected KEY=A,B with two values or more; type --vary "
                "stages.image.epochs=8,24, or --set for one value"
            )
        twice = [given for given in settings if given.partition("=")[0] == key]
        if key in axes or twice:
            raise ReidpipeError(
                f"found --vary {text} and {f'--set {twice[0]}' if twice else f'--vary {key}'} "
                "beside it; expected each key once; leave one out"
            )
        axes[key] = [f"{key}={value}" for value in found]
    return list(product(*axes.values()))


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
