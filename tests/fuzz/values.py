"""Plain values of other shapes than a file of ours has, and the texts that hold them."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_WORDS = (
    "", " ", "x", "../../x", "/etc/passwd", "a\nb", "\x1b[2J", "\u202e", "\ud800", "x" * 5000,
    "nan", "1e999", "mannequins", "folder", "None", "\0", "é", "cosine", "0", "-1", "..", "~nobody",
)  # fmt: skip
_NUMBERS = (
    0, -1, 1, 2, 3, 7, 255, 2**31, 2**63, -(2**63) - 1, 10**30, 10**9, 0.5, -0.5, 1e308,
    float("nan"), float("inf"), float("-inf"), 10**400,
)  # fmt: skip


def strange(rng: random.Random, depth: int = 0) -> Any:
    """A value that nobody expects: of any type, size and depth."""
    choice = rng.randrange(11)
    if choice == 0:
        return None
    if choice == 1:
        return rng.random() < 0.5
    if choice in (2, 3, 4):
        return rng.choice(_NUMBERS)
    if choice in (5, 6):
        return rng.choice(_WORDS)
    if choice == 7 or depth > 2:
        return rng.choice(([], {}, [[]], {"": {}}))
    if choice == 8:
        return [strange(rng, depth + 1) for _ in range(rng.randrange(1, 4))]
    if choice == 9:
        return {rng.choice(_WORDS): strange(rng, depth + 1) for _ in range(rng.randrange(1, 4))}
    nested: Any = 1
    for _ in range(rng.choice((20, 60))):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return nested


def mutated(rng: random.Random, value: Any) -> tuple[Any, str]:
    """``value`` changed in one to three places, and where."""
    value = copy.deepcopy(value)
    told = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value, what = _changed(rng, value)
        told.append(what)
    return value, "; ".join(told)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value[:6]) if isinstance(value, list) else items
    for key, item in items:
        found += _places(item, (*path, key))
    return found


def _changed(rng: random.Random, value: Any) -> tuple[Any, str]:
    places = _places(value)
    # Near the top is where a file says what it is.
    near = [path for path in places if len(path) <= 2]
    path = rng.choice(near if rng.random() < 0.5 else places)
    if not path:
        if rng.random() < 0.7 and len(places) > 1:
            return _changed(rng, value)
        new = strange(rng)
        return new, f"all is {_short(new)}"
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    key, old = path[-1], parent[path[-1]]
    way = rng.randrange(6)
    where = ".".join(map(str, path))
    if way == 0:
        del parent[key]
        return value, f"no {where}"
    if way == 1 and isinstance(parent, dict):
        parent[str(rng.choice(_WORDS))] = parent.pop(key)
        return value, f"{where} renamed"
    if way == 2 and isinstance(old, list) and old:
        parent[key] = rng.choice((old[:-1], old + old, old[::-1], [old], old * 50))
        return value, f"{where} of another length"
    if way == 3:
        near_by = _near(rng, old)
        parent[key] = near_by
        return value, f"{where} is {_short(near_by)}"
    parent[key] = strange(rng)
    return value, f"{where} is {_short(parent[key])}"


def _near(rng: random.Random, old: Any) -> Any:
    """The same type, or the same value in another."""
    if isinstance(old, bool):
        return rng.choice((not old, str(old), int(old)))
    if isinstance(old, int | float):
        return rng.choice((-old, old + 1, str(old), [old], float(old) + 0.5, old * 10**6))
    if isinstance(old, str):
        return rng.choice((old + "x", old[:-1], old.upper(), [old], {"a": old}, old * 200))
    if isinstance(old, list):
        return rng.choice(({}, tuple(old), dict(enumerate(map(str, old))), str(old)))
    if isinstance(old, dict):
        return rng.choice((list(old), list(old.items()), str(old), {}))
    return 0


def _short(value: Any) -> str:
    return ascii(value)[:60]


def as_json(rng: random.Random, value: Any) -> bytes:
    """JSON of a value as files may have it: NaN, other encodings, a BOM, keys twice."""
    # What Python alone can write (10**400, NaN) others may have written too.
    text = json.dumps(value, default=str)
    way = rng.randrange(20)
    if way == 0:
        return text.encode("utf-16")
    if way == 1:
        return b"\xef\xbb\xbf" + text.encode()
    if way == 2:
        return text.encode()[: rng.randrange(len(text))]
    if way == 3 and text.startswith("{") and len(text) > 2:
        return (text[:-1] + "," + text[1:]).encode()
    if way == 4:
        return b"[" * 100_000
    if way == 5:
        return text.encode() + b"\n" + text.encode()
    return text.encode("utf-8", "surrogatepass")
