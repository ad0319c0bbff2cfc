"""A step: what makes an artifact, described by plain data so that its key needs no heavy import."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.artifacts.kinds import KINDS, Kind
from pipeline.artifacts.running import SILENT, Running
from pipeline.artifacts.shapes import Maybe, Named, wrong
from pipeline.artifacts.validation import LAST_ONLY, Keep, Validation
from pipeline.terminal.errors import DamagedFile
from pipeline.terminal.watching import QUIET, Watching


@dataclass(frozen=True)
class Job:
    """What a worker receives.

    folder: where to write; the store adds ``artifact.json`` afterwards, which marks completion.
    params: the step's parameters. inputs: name -> folder of a complete artifact. weights: name ->
    digest in the step's key; files: name -> path of the file that has it.
    workspace: its root. workers: processes to use for per-image work. scheduler: address of a
    dask cluster, or None. device: as typed by the user (``auto``, ``cpu``, ``cuda``, ``cuda:1``).
    progress: whether bars may be drawn on stderr. watching: what else is told of training.
    validation, keep: what a model's training looks at, and which epochs it keeps.
    threads: of torch, BLAS and OpenMP in this process, which are set; sums depend on them.
    running: where the worker says how far it has come.
    """

    folder: Path
    params: dict[str, Any]
    inputs: dict[str, Path]
    workspace: Path
    files: dict[str, Path] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    workers: int = 1
    scheduler: str | None = None
    device: str = "auto"
    progress: bool = False
    watching: Watching = QUIET
    validation: Validation | None = None
    keep: Keep = LAST_ONLY
    threads: int = 1
    running: Running = SILENT


Worker = Callable[[Job], dict[str, Any]]
# A step as JSON values; its inputs are steps.
_PLAIN = {
    "name": str, "version": int, "params": dict, "inputs": Named(dict), "weights": Named(str),
    "files": Named(str), "keyed": Maybe(dict),
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One node of the graph.

    name: the kind of artifact, one of ``pipeline.artifacts.kinds.KINDS``, which knows its worker.
    params: plain JSON values, for the worker. keyed: what stands in the key in their place, where
    they hold more than decides the result (names, fields at their defaults); it must determine the
    rest. inputs: name -> step. weights: name -> SHA-256 of a file it loads, or of a plugin's text;
    files: name -> where that file is here, which is not part of the key. version: of the worker
    that made or will make it; 0: today's.

    Dictionaries have no order: a key ignores it, and a worker gets them sorted.
    """

    name: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Step] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    keyed: Mapping[str, Any] | None = None
    version: int = 0

    def __post_init__(self) -> None:
        if not self.version:
            object.__setattr__(self, "version", self.kind.version)

    @property
    def kind(self) -> Kind:
        """What is fixed for all steps of this name. Raises KeyError for a name nobody knows."""
        return KINDS[self.name]

    @cached_property
    def key(self) -> str:
        """20 hex digits of SHA-256 over name, version, parameters, input keys, weight digests."""
        content = {
            "name": self.name,
            "version": self.version,
            "params": self.params if self.keyed is None else self.keyed,
            "inputs": {name: step.key for name, step in self.inputs.items()},
            "weights": dict(self.weights),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def resolve(self) -> Worker:
        """Import the worker: this is the moment when torch may be loaded."""
        module, _, function = self.kind.worker.partition(":")
        return getattr(importlib.import_module(module), function)

    def plain(self) -> dict[str, Any]:
        """The step and all it stands on as JSON values; ``from_plain`` is the inverse."""
        value = {
            "name": self.name,
            "version": self.version,
            "params": dict(self.params),
            "inputs": {name: step.plain() for name, step in self.inputs.items()},
            "weights": dict(self.weights),
            "files": dict(self.files),
        }
        return value if self.keyed is None else {**value, "keyed": dict(self.keyed)}

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> Step:
        """Rebuild a step written by ``plain``; the key is the same. What else the value holds, such
        as the workers that older versions wrote down, is not looked at: a file in a workspace
        chooses no code. Raises DamagedFile for another shape, KeyError for a kind of step nobody
        knows.
        """
        if why := wrong(value, _PLAIN):
            raise DamagedFile(f"found a step with {why}; expected what was written there")
        name, version = value["name"], value["version"]
        if name not in KINDS:
            raise KeyError(f"a known kind of step: '{name}'")
        return cls(
            name=name,
            params=value["params"],
            inputs={name: cls.from_plain(step) for name, step in value["inputs"].items()},
            weights=value["weights"],
            files=value["files"],
            keyed=value.get("keyed"),
            version=version,
        )


def closure(targets: Iterable[Step]) -> list[Step]:
    """``targets`` and all they stand on, each once, inputs before what they feed."""
    found: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.key in found:
            return
        for source in step.inputs.values():
            visit(source)
        found[step.key] = step

    for target in targets:
        visit(target)
    return list(found.values())


def in_order(value: Any) -> Any:
    """JSON values with every dictionary sorted by its keys, at any depth: what a worker is given,
    so that nothing it makes can depend on an order that the key does not know.
    """
    return json.loads(json.dumps(value, sort_keys=True, allow_nan=False))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Values of parameters by their dotted path; members of a list by their name where they have
    one, else by their place. A list of plain values is a leaf, and so is nothing.
    """
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            name = item.get("name", number) if isinstance(item, Mapping) else number
            yield from leaves(item, f"{path}.{name}")
    else:
        yield path, None if value in ({}, []) else value
