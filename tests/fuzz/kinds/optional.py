"""Fields that a JSON file of an artifact may lack or leave null, each as if it did: what reads the
file has to do without, or say so in a line.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.artifacts.shapes import SHAPES, SUMMARIES, Each, Either, Maybe, Named
from tests.fuzz.case import Case, Place
from tests.fuzz.kinds.artifacts import MARK, case_of, copied

Field = tuple[str | int, ...]


def fields(value: Any, shape: Any, at: Field = ()) -> Iterator[Field]:
    """Where ``shape`` lets a part of ``value`` be absent or null; of lists in the first entry."""
    if isinstance(shape, Maybe):
        yield at
        if value is not None:
            yield from fields(value, shape.of, at)
    elif isinstance(shape, Either):
        for one in shape.of:
            yield from fields(value, one, at)
    elif isinstance(shape, Each) and isinstance(value, list) and value:
        yield from fields(value[0], shape.of, (*at, 0))
    elif isinstance(shape, Named) and isinstance(value, dict):
        for name in sorted(value):
            yield from fields(value[name], shape.of, (*at, name))
    elif isinstance(shape, dict) and isinstance(value, dict):
        for name, inner in shape.items():
            yield from fields(value.get(name), inner, (*at, name))


def choices(root: Path) -> list[tuple[Path, Field]]:
    """Every file of an artifact below ``root`` with each of its fields."""
    found = []
    for path in sorted((root / "artifacts").glob("*/*/*.json")):
        content, before, shape = json.loads(path.read_text()), (), SHAPES.get(path.name)
        if path.name == MARK:
            content, before = content["summary"], ("summary",)
            shape = SUMMARIES.get(path.parent.parent.name)
        if shape is not None:
            found += [(path, (*before, *at)) for at in dict.fromkeys(fields(content, shape))]
    return found


def optional(rng: random.Random, place: Place) -> Case:
    """One field, absent or null."""
    path, at = rng.choice(choices(copied(place)))
    content = json.loads(path.read_text())
    held = content
    for name in at[:-1]:
        held = held[name]
    absent = isinstance(held, dict) and rng.random() < 0.5
    if absent:
        held.pop(at[-1], None)
    else:
        held[at[-1]] = None
    path.write_text(json.dumps(content))
    about = f"{'.'.join(map(str, at))} {'absent' if absent else 'null'}"
    return case_of(rng, place, path, about, True, commands=4)


KINDS = {"optional": optional}
