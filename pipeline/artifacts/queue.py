"""What a command will make: a file of its own, ``queue/<host>-<process>.json`` in the workspace,
that others read while it works. A lock beside it dies with the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.about import About, about
from pipeline.artifacts.atomic import meant, read_plain, write_text
from pipeline.artifacts.kinds import KINDS
from pipeline.artifacts.locks import Held, holding, is_held
from pipeline.artifacts.mark import is_marked
from pipeline.terminal.printable import one_line

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Step
    from pipeline.artifacts.store import Workspace

FOLDER = "queue"
_KEY = re.compile(r"[0-9a-f]{20}")
_LARGEST = 16 << 20
# What a command has here behind its name: a lease that is taken over is named by the one before.
_OF_COMMAND = re.compile(r"\.(lock|json|lease(-[\w-]+)?)$")


@dataclass(frozen=True)
class WaitingStep:
    """A step that a command will make, and the command: its process and machine."""

    step: str
    key: str
    about: About
    command: str


@contextlib.contextmanager
def queued(workspace: Workspace, steps: Sequence[Step]) -> Iterator[None]:
    """Let others see ``steps``, in the order in which they are made, until this is left. Under
    torchrun the first process does. A workspace that cannot be written says so elsewhere.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    sweep(workspace)
    path = workspace.root / FOLDER / f"{_plain(socket.gethostname())}-{os.getpid()}.json"
    content = [{"step": s.name, "key": s.key, **asdict(about(s))} for s in steps]
    try:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError, Held):
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = path.with_suffix(".lock")
                stack.enter_context(holding(lock, "the queue is held", wait=False))
                write_text(path, json.dumps(content))
            stack.callback(_remove, path)
            yield
    finally:
        _remove(path.with_suffix(".lock"))


def sweep(workspace: Workspace) -> None:
    """Take away what killed commands have left."""
    folder = workspace.root / FOLDER
    for path in sorted(folder.glob("*")):
        command = _OF_COMMAND.sub("", meant(path.name) or path.name)
        if not is_held(folder / f"{command}.lock"):
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()  # stays while other commands have theirs in it


def _plain(host: str) -> str:
    return re.sub(r"[^\w.-]", "_", host)[:100]


def waiting_steps(workspace: Workspace) -> list[WaitingStep]:
    """Steps in the queues of commands that run, neither made nor being made, in their order. A file
    of another shape is passed over.
    """
    found: dict[str, WaitingStep] = {}
    for path in sorted((workspace.root / FOLDER).glob("*.json")):
        if is_held(path.with_suffix(".lock")):
            for step in _read(path):
                found.setdefault(step.key, step)
    artifacts = workspace.root / "artifacts"
    return [
        step
        for step in found.values()
        if not is_marked(artifacts / step.step / step.key)
        and not is_held(artifacts / step.step / f"{step.key}.lock")
    ]


def _read(path: Path) -> list[WaitingStep]:
    try:
        value = json.loads(read_plain(path, _LARGEST))
    except (OSError, ValueError, RecursionError):
        return []
    entries = value if isinstance(value, list) else []
    command = one_line(path.stem)
    return [WaitingStep(e["step"], e["key"], _about(e), command) for e in entries if _fits(e)]


def _fits(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("step"), str):
        return False
    key, seed = entry.get("key"), entry.get("seed")
    names = (entry.get(name) for name in ("recipe", "parser", "dataset"))
    return (
        entry["step"] in KINDS
        and isinstance(key, str)
        and _KEY.fullmatch(key) is not None
        and all(name is None or isinstance(name, str) for name in names)
        and (seed is None or (isinstance(seed, int) and abs(seed) < 1 << 63))
    )


def _about(entry: dict[str, Any]) -> About:
    names = {name: entry.get(name) for name in ("recipe", "parser", "dataset")}
    return About(
        **{name: text and one_line(text) for name, text in names.items()}, seed=entry.get("seed")
    )
