"""What is tried: files in a sandbox, the command lines that read them, and what must come of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Words = Sequence[str | Path]


@dataclass(frozen=True)
class Place:
    """A sandbox: ``given`` holds what the input is made of, ``workspace`` is where commands write;
    ``home``, ``cwd`` and ``sibling`` are canaries, and ``executed`` is a file that no command
    makes. pristine: the folder with whole files to damage, never written.
    """

    root: Path
    pristine: Path

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def given(self) -> Path:
        return self.root / "given"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def cwd(self) -> Path:
        return self.root / "cwd"

    @property
    def sibling(self) -> Path:
        return self.root / "sibling"

    @property
    def executed(self) -> Path:
        return self.root / "executed"


@dataclass
class Case:
    """about: the input in words. lines: commands, typed one after another. read: a call in their
    place, of a reader alone, which raises ReidpipeError for what it refuses. after: told what each
    command printed (None: it was refused), returns what is wrong with it, or nothing.
    """

    about: str
    lines: list[Words] = field(default_factory=list)
    read: Callable[[], object] | None = None
    after: Callable[[list[str | None]], str | None] | None = None


Maker = Callable[[random.Random, Place], Case]


def generator(kind: str, number: int, seed: int) -> random.Random:
    """The random numbers of one input, by its name alone."""
    return random.Random(f"fuzz {seed} {kind} {number}")
