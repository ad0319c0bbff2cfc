"""Two workspaces compared: byte for byte, but for what a clock decides."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEMPORARY = re.compile(r"\..+\.tmp-.+")
# How long something took, when it was, and how much of it this execution and no earlier one did.
CLOCK = {"seconds", "images_per_s", "started", "created", "made", "val_seconds"}


@dataclass
class Comparison:
    """faults: what is wrong, a line each. same: files equal to the byte, by name without numbers;
    alike: those that are equal but for what a clock decides.
    """

    faults: list[str] = field(default_factory=list)
    same: Counter[str] = field(default_factory=Counter)
    alike: Counter[str] = field(default_factory=Counter)


def compare(found: Path, expected: Path) -> Comparison:
    """The workspace ``found`` beside the one that was left in peace."""
    result = Comparison()
    names = [files(place) for place in (found, expected)]
    for name in sorted(names[0] - names[1]):
        kind = "a temporary file" if TEMPORARY.fullmatch(Path(name).name) else "a file too many"
        result.faults.append(f"{kind}: {name}")
    result.faults += [f"a file too few: {name}" for name in sorted(names[1] - names[0])]
    for name in sorted(names[0] & names[1]):
        one, other = (found / name).read_bytes(), (expected / name).read_bytes()
        kind = re.sub(r"\d+", "N", Path(name).name)
        if one == other:
            result.same[kind] += 1
            continue
        read = READERS.get(Path(name).name, READERS.get(Path(name).suffix))
        if read is not None and read(one) == read(other):
            result.alike[kind] += 1
        else:
            result.faults.append(f"other bytes: {name}")
    return result


def files(root: Path) -> set[str]:
    """Names below a workspace; apart from locks, which stay by design, and the logs of attempts."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name not in (".lock", "step.log")
    }


def without_clock(value: Any) -> Any:
    """A JSON value without what a clock decides, at any depth."""
    if isinstance(value, dict):
        return {name: without_clock(item) for name, item in value.items() if name not in CLOCK}
    if isinstance(value, list):
        return [without_clock(item) for item in value]
    return value


def _json(content: bytes) -> Any:
    return without_clock(json.loads(content))


def _mark(content: bytes) -> Any:
    """A mark holds sizes and digests of files that hold times."""
    value = _json(content)
    for name, entry in value["files"].items():
        if Path(name).name in READERS or Path(name).suffix in READERS:
            entry.clear()
    return value


def _log(content: bytes) -> Any:
    return [_json(line) for line in content.splitlines()]


def _table(content: bytes) -> Any:
    return [without_clock(row) for row in csv.DictReader(content.decode().splitlines())]


READERS: dict[str, Callable[[bytes], Any]] = {
    "artifact.json": _mark,
    "model.json": _json,
    "validation.json": _json,
    "run.json": _json,
    "log.jsonl": _log,
    "log.csv": _table,
}
