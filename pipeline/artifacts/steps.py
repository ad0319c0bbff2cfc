"""A step: what makes an artifact, described by plain data so that its key needs no heavy import."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """What a worker receives.

    folder: where to write; the store adds ``artifact.json`` afterwards, which marks completion.
    params: the step's parameters. inputs: name -> folder of a complete artifact. files: name ->
    path of a weights file whose digest the step's key holds.
    workspace: its root. workers: processes to use for per-image work. scheduler: address of a
    dask cluster, or None. device: as typed by the user (``auto``, ``cpu``, ``cuda``, ``cuda:1``).
    progress: whether bars may be drawn on stderr.
    """

    folder: Path
    params: dict[str, Any]
    inputs: dict[str, Path]
    workspace: Path
    files: dict[str, Path] = field(default_factory=dict)
    workers: int = 1
    scheduler: str | None = None
    device: str = "auto"
    progress: bool = False


Worker = Callable[[Job], dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """One node of the graph.

    name: the kind of artifact (``index``, ``images``, ``maps``, ``model``, ``evaluation``).
    version: raised by hand whenever the worker's output changes for equal parameters.
    worker: ``"module:function"``, imported only in the process that executes the step.
    params: plain JSON values. inputs: name -> step. weights: name -> SHA-256 of a file it loads;
    files: name -> where that file is here, which is not part of the key.
    resumable: the worker continues from the files an earlier, interrupted execution left.
    collective: under torchrun every process executes it, otherwise the first one alone.
    """

    name: str
    version: int
    worker: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Step] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    resumable: bool = False
    collective: bool = False

    @cached_property
    def key(self) -> str:
        """20 hex digits of SHA-256 over name, version, parameters, input keys, weight digests."""
        content = {
            "name": self.name,
            "version": self.version,
            "params": self.params,
            "inputs": {name: step.key for name, step in self.inputs.items()},
            "weights": dict(self.weights),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def resolve(self) -> Worker:
        """Import the worker: this is the moment when torch may be loaded."""
        module, _, function = self.worker.partition(":")
        return getattr(importlib.import_module(module), function)

    def plain(self) -> dict[str, Any]:
        """The step and all it stands on as JSON values; ``from_plain`` is the inverse."""
        return {
            "name": self.name,
            "version": self.version,
            "worker": self.worker,
            "params": dict(self.params),
            "inputs": {name: step.plain() for name, step in self.inputs.items()},
            "weights": dict(self.weights),
            "files": dict(self.files),
            "resumable": self.resumable,
            "collective": self.collective,
        }

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> Step:
        """Rebuild a step written by ``plain``; the key is the same."""
        inputs = {name: cls.from_plain(step) for name, step in value["inputs"].items()}
        return cls(**{**value, "inputs": inputs})
