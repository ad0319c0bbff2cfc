"""Steps at work: how far each has come, for this process, for others and for other machines.

A step at work has a small file beside its artifact's folder, ``artifacts/<step>/<key>.running``.
It goes when the step ends; one that a killed process left is known by the artifact's lock, which
nobody holds. Whatever it says is taken for text and numbers of somebody else.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.artifacts.about import About, about
from pipeline.artifacts.atomic import read_plain
from pipeline.artifacts.kinds import KINDS
from pipeline.artifacts.locks import is_held
from pipeline.terminal.printable import one_line

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Step
    from pipeline.artifacts.store import Workspace

SUFFIX = ".running"
# Between two writes; longer on a disk so slow that writing would be felt.
EVERY_SECONDS = 0.5
_SHARE = 0.02
# Before that much time nobody knows how long the rest takes.
SURE_SECONDS = 2.0
_SIZE = 4096
# Between two steps of a command nothing is being made for a moment.
_IDLE_LOOKS, _IDLE_SECONDS = 3, 0.3

_Found = TypeVar("_Found")


class Running:
    """What a step at work tells of itself. Without a path nobody listens.

    path: the file that is written. told: what does not change: step, key, host, ...
    """

    def __init__(
        self,
        path: Path | None = None,
        told: dict[str, Any] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._told, self._clock = path, told or {}, clock
        self._pace: Pace | None = None
        self._began = clock()
        # What was at work before and could not say its end.
        self.killed: RunningStep | None = None
        self._next = -math.inf

    def begin(self) -> None:
        """Be seen before anything is done; the first report is written too, however soon."""
        if self._path is not None:
            self._write(Pace(None, "", 0, self._began), "", self._began)
            self._next = -math.inf

    def report(
        self, done: float, total: float | None = None, unit: str = "", line: str = ""
    ) -> None:
        """``done`` of ``total`` (None: nobody knows) things of a ``unit`` ("images") are done; what
        was done before by a session that was stopped counts, and is not taken for speed. line: what
        else a person wants to know ("epoch 3/20, loss 1.234").

        Cheap enough for a loop over a million images. Never raises: a disk that is full stops the
        work, not the telling of it.
        """
        if self._path is None:
            return
        now = self._clock()
        pace = self._pace
        if pace is None or pace.total != total or pace.unit != unit or done < pace.done:
            pace = self._pace = Pace(total, unit, done, now)
        pace.done = done
        if now >= self._next:
            self._write(pace, line, now)

    def _write(self, pace: Pace, line: str, now: float) -> None:
        assert self._path is not None
        content = {
            **self._told,
            "seconds": round(now - self._began, 3),
            "done": pace.done,
            "total": pace.total,
            "unit": pace.unit,
            "left": pace.left(now),
            "line": one_line(line),
        }
        with contextlib.suppress(OSError, ValueError):
            _overwrite(self._path, json.dumps(content, allow_nan=False).encode())
        end = self._clock()
        self._next = end + max(EVERY_SECONDS, (end - now) / _SHARE)


def _overwrite(path: Path, content: bytes) -> None:
    """In place, in one write of a constant size within one page, which a reader sees whole: a
    rename makes some file systems wait for the disk, and after a power cut nothing is at work.
    """
    if len(content) >= _SIZE:
        raise ValueError("too long to be told")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        os.pwrite(handle, content.ljust(_SIZE - 1) + b"\n", 0)
    finally:
        os.close(handle)


class Pace:
    """How fast it goes, from the first report on."""

    def __init__(self, total: float | None, unit: str, done: float, now: float) -> None:
        self.total, self.unit, self.done = total, unit, done
        self.first, self.began = done, now

    def left(self, now: float) -> float | None:
        """Seconds to the end; None before anybody can know."""
        taken, made = now - self.began, self.done - self.first
        if self.total is None or taken < SURE_SECONDS or made <= 0:
            return None
        return round(max(self.total - self.done, 0) * taken / made, 1)


SILENT = Running()


class Counter:
    """A count of what is done of ``total`` things, reported as it grows."""

    def __init__(self, running: Running, total: int, unit: str = "images", done: int = 0) -> None:
        self._running, self._total, self._unit, self._done = running, total, unit, done
        self.add(0)

    def add(self, number: int) -> None:
        """``number`` more are done."""
        self._done += number
        self._running.report(self._done, self._total, self._unit)

    def count(self, part: list[Any]) -> list[Any]:
        """``part``, whose things are done."""
        self.add(len(part))
        return part


@contextlib.contextmanager
def at_work(folder: Path, step: Step) -> Iterator[Running]:
    """What ``step``, whose artifact's lock the caller holds, reports through; over when left."""
    path = path_of(folder)
    killed = read_running(path)
    forget(folder)
    found = about(step)
    told: dict[str, Any] = {
        "step": step.name,
        "key": step.key,
        **asdict(found),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": round(time.time(), 3),
    }
    running = Running(path, told)
    running.killed = killed
    running.begin()
    try:
        yield running
    finally:
        forget(folder)


def path_of(folder: Path) -> Path:
    """The file of an artifact's folder."""
    return folder.with_name(folder.name + SUFFIX)


def forget(folder: Path) -> None:
    """Take away the file. The caller holds the artifact's lock."""
    path_of(folder).unlink(missing_ok=True)


@dataclass(frozen=True)
class RunningStep:
    """A step at work, as its file told it last: ``Running`` says what is what. host, pid: of its
    process. started: seconds since 1970 there; seconds: at work until it reported last. left: to
    its end, from then.
    """

    step: str
    key: str
    host: str
    pid: int
    started: float
    seconds: float
    recipe: str | None = None
    parser: str | None = None
    dataset: str | None = None
    seed: int | None = None
    done: float | None = None
    total: float | None = None
    unit: str = ""
    left: float | None = None
    line: str = ""

    @property
    def about(self) -> About:
        """What the step is about."""
        return About(self.recipe, self.parser, self.dataset, self.seed)


def running_steps(workspace: Workspace) -> list[RunningStep]:
    """Steps that processes are at work on, here or on other machines, longest first. A file of
    another shape is passed over, and so is one whose maker is dead.
    """
    found = []
    for path in (workspace.root / "artifacts").glob(f"*/*{SUFFIX}"):
        read = read_running(path)
        if read is not None and is_held(path.with_suffix(".lock")):
            found.append(read)
    return sorted(found, key=lambda step: (step.started, step.key))


def looks(look: Callable[[], _Found], every: float) -> Iterator[_Found]:
    """What ``look()`` finds, a look every so many seconds, until it has found nothing for a moment;
    the last of what is given are empty or false.
    """
    idle = 0
    while idle < _IDLE_LOOKS:
        found = look()
        idle = 0 if found else idle + 1
        yield found
        if idle < _IDLE_LOOKS:
            time.sleep(_IDLE_SECONDS if idle else every)


def read_running(path: Path) -> RunningStep | None:
    """What a file tells; None where there is none, or one of another shape."""
    try:
        value = json.loads(read_plain(path, _SIZE))
    except (OSError, ValueError, RecursionError):
        return None
    step, key = path.parent.name, path.name.removesuffix(SUFFIX)
    if not isinstance(value, dict) or value.get("step") != step or value.get("key") != key:
        return None
    if step not in KINDS:
        return None
    if any(not fits(value.get(name)) for name, fits in _FIELDS.items()):
        return None
    told: dict[str, Any] = {
        name: one_line(value[name]) if isinstance(value[name], str) else value[name]
        for name in _FIELDS
        if value.get(name) is not None
    }
    return RunningStep(step=step, key=key, **told)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_amount(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < 1e15


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    **{name: _is_text for name in ("host", "unit", "line")},
    **{name: _is_amount for name in ("started", "seconds")},
    "pid": _is_whole,
    **{name: _or_none(_is_text) for name in ("recipe", "parser", "dataset")},
    **{name: _or_none(_is_amount) for name in ("done", "total", "left")},
    "seed": _or_none(_is_whole),
}
