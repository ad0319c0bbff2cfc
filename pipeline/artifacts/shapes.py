"""What commands read of each JSON file of an artifact: the one place where its shape is judged.

A shape is plain data: a type, or several of which one fits; ``{name: shape}`` for what a mapping
has at least; ``Each(shape)`` for a list, ``Named(shape)`` for a mapping from any names;
``Maybe(shape)`` for what may be absent or null. Numbers are finite, and true is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple


class Each(NamedTuple):
    """A list; count: of so many."""

    of: Any
    count: int | None = None


class Named(NamedTuple):
    """A mapping from any names."""

    of: Any


class Maybe(NamedTuple):
    """Absent, null, or this."""

    of: Any


class Either(NamedTuple):
    """One of several."""

    of: tuple[Any, ...]


class Among(NamedTuple):
    """One of these words."""

    words: tuple[str, ...]


NUMBER = (int, float)
_SHARES = {"mAP": NUMBER, "mINP": NUMBER, "cmc": Named(NUMBER)}
_INTERVALS = Named(Maybe(Each(NUMBER, 2)))
_KIND = {"same": Each(int), "different": Each(int)}
_OPTIONS = {"trunk": str, "options": Maybe(dict), "input_size": Each(int, 2), "mean": Each(NUMBER),
            "std": Each(NUMBER), "distance": Maybe(str)}  # fmt: skip
_NONE_OR_NUMBER = Either((NUMBER, type(None)))
_CELLS = dict.fromkeys(
    ("silhouette", "groups", "same_identity", "other_identity", "gap"), _NONE_OR_NUMBER
)
# By the file's name; the same name in the artifacts of two steps is one of several shapes.
SHAPES: dict[str, Any] = {
    "dataset.json": {
        "dataset": str, "root": str, "definition": Maybe(dict), "decoding": Maybe(str),
    },
    "keys.json": {"keys": Each(str), "size": Each(int, 2), "filter": str},
    "features.json": Either((Each(str), {"pids": Each(int), "part_names": Each(str)})),
    "prompts.json": {"pids": Each(int)},
    "text.json": {"pids": Each(int), "part_names": Each(str)},
    "model.json": {
        "model": _OPTIONS, "dataset": Maybe(str), "identity_order": Maybe(Each(int)),
        "plugins": Maybe(Named({"sha256": str, "names": Each(str)})), "weights_sha256": Maybe(str),
        "preprocessing": Maybe(dict), "training": Maybe(dict),
        "recipe": Maybe({"name": Maybe(str), "stages": Maybe(Each(dict))}),
        "seed": Maybe(int), "runtime": Maybe(dict), "metrics": Maybe(Named(Maybe(NUMBER))),
        "model_key": Maybe(str), "epoch": Maybe(int),
    },
    "network.json": {"model": _OPTIONS, "test_filter": Maybe(str), "flip": Maybe(bool)},
    "metrics.json": _SHARES | {
        "dataset": str, "protocol": str, "exclude": str, "distance": Maybe(str), "queries": int,
        "valid_queries": int, "gallery": int, "intervals": Maybe(_INTERVALS), "recipe": Maybe(str),
        "seed": Maybe(int), "unit": Maybe(str), "side_information": Maybe(str), "flip": Maybe(bool),
        "feature": Maybe(str),
        "chance": Maybe(Named(NUMBER)), "rerank": Maybe(_SHARES | {"intervals": Maybe(_INTERVALS)}),
    },
    "protocol.json": {
        "image_size": Each(int, 2), "inputs": {"index": str}, "flip": bool,
        "precision": str,
        "exclude": Maybe(str), "distance": Maybe(str), "definition": Maybe({"name": str}),
        "feature": Maybe(str), "trials": Maybe(int), "rerank": Maybe(dict),
    },
    "threshold.json": {
        "threshold": Maybe(NUMBER), "threshold_fpr": Maybe(NUMBER), "similarity": Maybe(str),
        "histogram": _KIND | {"edges": Each(NUMBER)}, "side_information": Maybe(str),
        "pairs": Maybe({"same": int, "different": int}), "people": Maybe(int),
        "points": Maybe(Each(dict.fromkeys(("wanted_fpr", "fpr", "tpr", "threshold"), NUMBER))),
        "calibration": Maybe(dict),
    },
    "activations.json": {"method": Among(("gradient", "occlusion")), "queries": Maybe(Each(str))},
    "cells.json": Either(({"why": str}, {"silhouette": NUMBER, "protocol": str})),
    "parts.json": {"protocol": str, "runs": Named(Named(_CELLS))},
}  # fmt: skip

_COUNT = {"subset": str, "ids": Maybe(int), "images": Maybe(int), "cameras": Maybe(int)}
_NAMES = Maybe(Each(str))
_MAPS = {"images": int, "seconds": NUMBER, "images_per_s": NUMBER, "failed": _NAMES,
         "no_person": _NAMES, "little_person": _NAMES, "two_bodies": _NAMES,
         "one_class": _NAMES, "same_as_fp32": Maybe(NUMBER), "computed_in": Maybe(str)}  # fmt: skip
# What commands read of the summary in the mark of a step of this name.
SUMMARIES: dict[str, Any] = {
    "index": {"counts": Each(_COUNT), "lines": Each(str), "problems": Each(str),
              "layout": Maybe(str), "notes": _NAMES},
    "maps": _MAPS,
    "exact": _MAPS,
    "centred": {"changed": Each(str)},
    "damaged": {"images": int, "equal": NUMBER},
    "model": {"identities": Maybe(int), "seconds": Maybe(NUMBER), "trunk": Maybe(str),
              "input_size": Maybe(Each(int, 2)), "parameters": Maybe(int)},
}  # fmt: skip


def wrong(value: Any, shape: Any) -> str:
    """Where a value first departs from a shape, in words; nothing where it does not."""
    return _departs(value, shape, "") if shape is not None else ""


def _departs(value: Any, shape: Any, at: str) -> str:
    if isinstance(shape, Either):
        found = [_departs(value, each, at) for each in shape.of]
        return "" if "" in found else found[-1]
    if isinstance(shape, Among):
        fits = isinstance(value, str) and value in shape.words
        return "" if fits else f"{at.lstrip('.') or 'content'} {_short(value)}"
    if isinstance(shape, Maybe):
        return "" if value is None else _departs(value, shape.of, at)
    if isinstance(shape, Each):
        return _list(value, shape, at)
    if isinstance(shape, Named):
        if not isinstance(value, Mapping):
            return f"{at or 'content'} that is no mapping"
        return _first(_departs(item, shape.of, f"{at}.{name}") for name, item in value.items())
    if isinstance(shape, Mapping):
        return _mapping(value, shape, at)
    return "" if _is(value, shape) else f"{at.lstrip('.') or 'content'} {_short(value)}"


def _list(value: Any, shape: Each, at: str) -> str:
    if not isinstance(value, list) or shape.count not in (None, len(value)):
        return f"{at.lstrip('.') or 'content'} {_short(value)}"
    return _first(_departs(item, shape.of, f"{at}.{n}") for n, item in enumerate(value))


def _mapping(value: Any, shape: Mapping[str, Any], at: str) -> str:
    if not isinstance(value, Mapping):
        return f"{at.lstrip('.') or 'content'} that is no mapping"
    for name, inner in shape.items():
        if name not in value and not isinstance(inner, Maybe):
            return f"no {at.lstrip('.') + '.' if at else ''}{name}"
    there = ((name, inner) for name, inner in shape.items() if name in value)
    return _first(_departs(value[name], inner, f"{at}.{name}") for name, inner in there)


def _first(found: Any) -> str:
    return next((text for text in found if text), "")


def _is(value: Any, kinds: Any) -> bool:
    if isinstance(value, bool) and kinds is not bool:
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        # What does not fit 64 bits is no number of ours, and an error of the first array it enters.
        whole = isinstance(value, int)
        if not (-(2**63) <= value < 2**63 if whole else isfinite(value)):
            return False
    if isinstance(value, str) and not _is_text(value):
        return False
    return isinstance(value, kinds)


def _is_text(value: str) -> bool:
    """Whether it can be written: bytes that are no UTF-8, as names of files may have, can."""
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
