"""What a command tells of the steps it makes: a line for each event, and on a terminal a board with
the steps at work, the queue and the time left.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.artifacts.about import about
from pipeline.artifacts.attempts import Reader
from pipeline.artifacts.durations import usual_seconds
from pipeline.artifacts.queue import queued
from pipeline.artifacts.running import RunningStep, path_of, read_running
from pipeline.terminal import board
from pipeline.terminal.printable import one_line
from pipeline.terminal.tables import clock

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Step
    from pipeline.artifacts.store import Workspace

EVERY_SECONDS = 0.5


class Events:
    """The ``Telling`` of a command. say: writes a line on stderr. quiet: tell nothing. draws: keep
    a board there.

    Where steps are made side by side, the lines that each prints are read from its log and told
    with its name before them; of a single one after another they come from itself.
    """

    def __init__(
        self,
        workspace: Workspace,
        say: Callable[[str], None],
        *,
        quiet: bool = False,
        draws: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.workspace, self.quiet, self.draws = workspace, quiet, draws and not quiet
        self._say, self._clock = say, clock
        self._lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        self._reset()

    def _reset(self) -> None:
        self._steps: dict[str, Step] = {}
        self._names: dict[str, str] = {}
        self._readers: dict[str, Reader] = {}
        self._working: dict[str, float] = {}  # key -> when it began
        self._over: dict[str, bool] = {}  # key -> whether it was made
        self._usual: dict[str, float] = {}
        self._together = 1
        self._board: board.Board | None = None

    def __call__(self, step: Step) -> None:
        """As a plain function that announces steps."""
        self.started(step)

    def queued(self, steps: Sequence[Step], *, together: int = 1) -> None:
        self.close()
        self._together = together
        self._steps = {step.key: step for step in steps}
        self._stack.enter_context(queued(self.workspace, steps))
        if self.quiet:
            return
        if together > 1:
            self._names = prefixes(steps)
            self._readers = {s.key: Reader(self.workspace.folder(s)) for s in steps}
        if self.draws:
            self._usual = usual_seconds(self.workspace, {step.name for step in steps})
            self._board = board.Board(sys.stderr)
            self._board.open()
            self._stack.callback(self._board.close)
        if together > 1 or self.draws:
            stop = threading.Event()
            thread = threading.Thread(target=self._follow, args=(stop,), daemon=True)
            thread.start()
            self._stack.callback(thread.join)
            self._stack.callback(stop.set)

    def started(self, step: Step) -> None:
        with self._lock:
            self._working[step.key] = self._clock()
            told = str(about(step))
            self._tell(f"making {step.name} {step.key[:8]}" + (f" ({told})" if told else ""))

    def finished(self, step: Step, seconds: float) -> None:
        with self._lock:
            self._ends(step, made=True)
            if self._together > 1:
                made = sum(self._over.values())
                self._tell(
                    f"made {step.name} {step.key[:8]} in {spoken(seconds)}, {made} of "
                    f"{len(self._steps)} steps"
                )

    def failed(self, step: Step, error: BaseException) -> None:
        with self._lock:
            self._ends(step, made=False)
            if self._together > 1:
                what = str(error) or type(error).__name__
                self._tell(one_line(f"failed {step.name} {step.key[:8]}: {what}"))

    def lost(self, step: Step) -> None:
        with self._lock:
            self._working.pop(step.key, None)
            self._tell(
                f"lost {step.name} {step.key[:8]}: its worker died; it goes on elsewhere from what "
                "is saved"
            )

    def close(self) -> None:
        self._stack.close()
        with self._lock:
            for key in list(self._readers):
                self._drain(key)
            self._reset()

    def _ends(self, step: Step, *, made: bool) -> None:
        self._working.pop(step.key, None)
        self._over[step.key] = made
        self._drain(step.key)
        self._readers.pop(step.key, None)

    def _tell(self, line: str) -> None:
        if not self.quiet:
            # A terminal that has gone away ends the lines and not the work.
            with contextlib.suppress(OSError):
                self._say(line)

    def _follow(self, stop: threading.Event) -> None:
        while not stop.wait(EVERY_SECONDS):
            with self._lock:
                for key in [key for key in self._working if key in self._readers]:
                    self._drain(key)
                if self._board is not None:
                    self._board.show(self.picture())

    def _drain(self, key: str) -> None:
        if key in self._readers:
            for line in self._readers[key].lines():
                self._tell(f"{self._names[key]} | {line}")

    def picture(self) -> list[str]:
        """The board's lines: the queue, and below it the steps at work."""
        running = []
        for key, began in self._working.items():
            step = self._steps.get(key)
            if step is None:
                continue
            found = read_running(path_of(self.workspace.folder(step)))
            taken = self._clock() - began
            if found is None:
                host = socket.gethostname()
                found = RunningStep(step.name, key, host, 0, 0.0, taken, **vars(about(step)))
            usual = self._usual.get(step.name)
            if found.left is None and usual is not None:
                found = replace(found, left=max(usual - taken, 0.0))
            running.append(found)
        if not running:
            return []
        made, total = sum(self._over.values()), len(self._steps)
        waiting = total - len(self._over) - len(running)
        parts = [f"{made} of {total} steps made"]
        left = self._left(running)
        if waiting:
            parts += [f"{waiting} wait"] + ([] if left is None else [f"about {clock(left)} left"])
        return [", ".join(parts), *board.rows(running, socket.gethostname())]

    def _left(self, running: Sequence[RunningStep]) -> float | None:
        """Seconds to the end of the queue, from what such steps took before; None where of one kind
        there was none.
        """
        waiting = [
            step.name
            for key, step in self._steps.items()
            if key not in self._over and key not in self._working
        ]
        now = [step.left for step in running if step.left is not None]
        if len(now) < len(running) or any(name not in self._usual for name in waiting):
            return None
        work = sum(now) + sum(self._usual[name] for name in waiting)
        return max([work / max(self._together, 1), *now])


def prefixes(steps: Sequence[Step]) -> dict[str, str]:
    """Key -> what stands before the lines of a step: ``pi-vl-tiny s1``, with as much more as tells
    all of them apart: the dataset, the kind of step, its key.
    """
    names = {step.key: about(step).short or step.name for step in steps}
    for more in (
        lambda step: about(step).dataset or "",
        lambda step: "" if step.name == "model" else step.name,
        lambda step: step.key[:8],
    ):
        alike: dict[str, list[Step]] = {}
        for step in steps:
            alike.setdefault(names[step.key], []).append(step)
        for name, group in alike.items():
            if len({more(step) for step in group}) > 1:
                names |= {step.key: f"{name} {more(step)}".rstrip() for step in group}
    return names


def spoken(seconds: float) -> str:
    """``4.1 s``, ``41 s``, ``12:03``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else clock(seconds)
