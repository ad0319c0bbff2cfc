"""A board at the foot of a terminal: lines that are drawn again in place, below what is written.

While it is there, ``sys.stderr`` writes above it. It is gone at the end.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

from pipeline.artifacts.running import RunningStep
from pipeline.terminal.printable import printable
from pipeline.terminal.tables import clock

UP, CLEAR_LINE, CLEAR_BELOW = "\x1b[{}A", "\x1b[K", "\x1b[J"
BAR = 10
# Names of steps are as wide as the widest, up to this.
_NAMES = 48


class Board:
    """size: (columns, rows) of the terminal now."""

    def __init__(
        self,
        stream: TextIO,
        size: Callable[[], tuple[int, int]] = shutil.get_terminal_size,
    ) -> None:
        self.stream, self._size = stream, size
        self._lock = threading.RLock()
        self._lines: list[str] = []
        self._drawn: list[int] = []  # widths of what stands there now
        self._whole = True  # whether what was written above ended its line
        self._before: TextIO | None = None

    def open(self) -> None:
        """From now on what is written to stderr stands above."""
        self._before = sys.stderr
        sys.stderr = _Above(self)

    def close(self) -> None:
        """Leave nothing but what was written."""
        with self._lock:
            self._lines = []
            self._put("")
            if self._before is not None and isinstance(sys.stderr, _Above):
                sys.stderr = self._before
            self._before = None

    def show(self, lines: Sequence[str]) -> None:
        """Draw these lines in place of those before; what has no room is cut."""
        with self._lock:
            self._lines = list(lines)
            if self._whole:
                self._put("")

    def write(self, text: str) -> int:
        """Text above the board, which waits while a line is unfinished."""
        with self._lock:
            if not self._whole:
                self.stream.write(text)
            last = text.rpartition("\n")[2].rstrip("\r").rpartition("\r")[2]
            whole = not last.strip() if text.strip("\n") or "\n" in text else self._whole
            if self._whole:
                self._whole = whole
                self._put(text)
            else:
                self._whole = whole
                self._put("")
        return len(text)

    def _put(self, text: str) -> None:
        columns, rows = self._size()
        lines = [fitted(line, columns - 1) for line in self._lines] if self._whole else []
        room = max(rows - 1, 1)
        if len(lines) > room:
            rest = len(lines) - room + 1
            lines = [*lines[: room - 1], fitted(f"and {rest} more", columns - 1)]
        # One write, so that nobody sees the board half drawn.
        above = CLEAR_BELOW + text if text else ""
        drawn = "\n".join(line + CLEAR_LINE for line in lines)
        piece = self._back(columns) + above + drawn + (CLEAR_BELOW if self._drawn else "")
        self._drawn = [width_of(line) for line in lines]
        with contextlib.suppress(OSError):
            self.stream.write(piece)
            self.stream.flush()

    def _back(self, columns: int) -> str:
        """To where the board begins. In a terminal that has become narrower its lines have become
        several.
        """
        if not self._drawn:
            return ""
        rows = sum(max(1, -(-width // max(columns, 1))) for width in self._drawn)
        return "\r" + (UP.format(rows - 1) if rows > 1 else "")


class _Above:
    """stderr while a board is there."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        return self._board.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._board.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._board.stream, name)


def rows(running: Sequence[RunningStep], host: str) -> list[str]:
    """A line for each: what it is, a bar, what it says, the time left, and where it runs unless
    that is ``host``.
    """
    names = [printable(f"{s.step} {s.key[:8]} {s.about}".rstrip()) for s in running]
    width = min(max((width_of(name) for name in names), default=0), _NAMES)
    lines = []
    for name, step in zip(names, running, strict=True):
        name = fitted(name, width)
        # The longest last: what a narrow terminal has no room for is cut.
        told = [f"{clock(step.left)} left" if step.left is not None else ""]
        told += [f"on {step.host}" if step.host != host else "", progress(step)]
        padding = " " * (width - width_of(name))
        lines.append(f"{name}{padding} {bar(step)} {', '.join(part for part in told if part)}")
    return [line.rstrip() for line in lines]


def bar(step: RunningStep) -> str:
    """``[####------]``; of what nobody knows the end of, nothing is drawn."""
    if not step.total or step.done is None:
        return f"[{' ' * BAR}]"
    full = int(BAR * min(step.done / step.total, 1.0))
    return f"[{'#' * full}{'-' * (BAR - full)}]"


def progress(step: RunningStep) -> str:
    """``312/1000 images`` or what it says itself."""
    if step.line or not step.total:
        return step.line
    return f"{step.done or 0:.0f}/{step.total:.0f} {step.unit}".rstrip()


def width_of(text: str) -> int:
    """Columns that a terminal gives to a text without control characters."""
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fitted(text: str, width: int) -> str:
    """One printable line of at most ``width`` columns; what is cut ends with ``~``."""
    text = printable(text).replace("\n", " ").replace("\t", " ")
    if width_of(text) <= width:
        return text
    kept, room = [], max(width - 1, 0)
    for char in text:
        room -= _columns(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + ("~" if width > 0 else "")
