"""Variants of a dataset: fields laid over the others, of several at once where they join."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.terminal.errors import ReidpipeError, nearest

JOINT = "+"


def chosen(
    name: str, typed: str, variants: Mapping[str, Any], *, join: bool
) -> tuple[str, list[Any]]:
    """What is typed after the colon -> the variant's name, and the fields to lay over, in turn.

    name: of the dataset. join: whether ``a+b`` is both; its name has them in the order of the
    manifest, so that one set of images has one name. Raises ReidpipeError for a variant that there
    is not, and for two that give one field different values.
    """
    parts = typed.split(JOINT) if join else [typed]
    for part in parts:
        if part not in variants:
            raise ReidpipeError(
                f"found variant '{part}' of {name}{nearest(part, variants)}; "
                f"expected one of {', '.join(variants) or 'none'}; type reidpipe datasets"
            )
    ordered = [variant for variant in variants if variant in parts]
    given: dict[str, tuple[Any, str]] = {}
    for variant in ordered:
        for place, value in _leaves(variants[variant]):
            other, whose = given.setdefault(place, (value, variant))
            if other != value:
                raise ReidpipeError(
                    f"found variants '{whose}' and '{variant}' of {name} together, which differ in "
                    f"{place}; expected one of them; type {name}:{variant}"
                )
    return JOINT.join(ordered), [variants[variant] or {} for variant in ordered]


def overlaid(base: Any, over: Any) -> Any:
    """``base`` with what ``over`` has in its place, mapping by mapping."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {
            key: overlaid(base[key], over[key]) if key in base and key in over
            else over.get(key, base.get(key))
            for key in (*base, *(key for key in over if key not in base))
        }  # fmt: skip
    return over


def _leaves(fields: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(fields, Mapping) and fields:
        for key, value in fields.items():
            yield from _leaves(value, f"{place}.{key}".lstrip("."))
    else:
        yield place, fields
