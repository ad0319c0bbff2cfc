"""The log of a step, ``step.log`` in its artifact's folder: every attempt to make it, by whom, what
was printed meanwhile and how it ended. It belongs to no result: no mark, no digest knows it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.artifacts.atomic import read_plain
from pipeline.artifacts.mark import STEP_LOG
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import printable

if TYPE_CHECKING:
    from pipeline.artifacts.running import RunningStep

# Beyond the first the oldest lines go, until the second is left.
LARGEST, KEPT = 1 << 20, 1 << 19
_LINE = 2000
_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
# Before what is said here of an attempt: all other lines were printed by the step.
SIGN = "-- "
_DROPPED = re.compile(rb"-- (\d{1,18}) bytes of earlier lines were left out\n")


@contextlib.contextmanager
def recorded(
    folder: Path, *, apart: bool = False, killed: RunningStep | None = None
) -> Iterator[None]:
    """Write what is printed meanwhile (stdout and stderr of Python: ``print``, logging, warnings)
    into the step's log too, or with ``apart`` into it alone; and how the attempt began and ended.
    killed: the attempt before, where it could not say its end.

    The file is there from the first line on: a step that is not resumed begins in an empty folder.
    """
    log = StepLog(folder / STEP_LOG)
    if killed is not None:
        log.wait(f"process {killed.pid} on {killed.host} was killed")
    log.wait(f"begun {_now()} by process {os.getpid()} on {socket.gethostname()}")
    began = time.monotonic()
    streams = sys.stdout, sys.stderr
    sys.stdout = _Tee(log, None if apart else sys.stdout)
    sys.stderr = _Tee(log, None if apart else sys.stderr)
    try:
        yield
    except BaseException as error:
        log.end_line()
        for line in _blame(error):
            log.note(line)
        how = "failed" if isinstance(error, Exception) else "stopped"
        log.note(f"{how} {_now()} after {time.monotonic() - began:.1f} s")
        raise
    else:
        log.end_line()
        log.note(f"done {_now()} after {time.monotonic() - began:.1f} s")
    finally:
        sys.stdout, sys.stderr = streams


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _blame(error: BaseException) -> list[str]:
    """A mistake in its one line; anything else with where it happened."""
    if isinstance(error, ReidpipeError):
        return [str(error)]
    if not isinstance(error, Exception):
        return [type(error).__name__]
    return "".join(traceback.format_exception(error)).splitlines()[-200:]


def emptied(folder: Path) -> None:
    """Take everything out of an artifact's folder but the log of earlier attempts."""
    if folder.is_symlink() or not folder.is_dir():
        shutil.rmtree(folder)  # raises: that is no folder of ours
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != STEP_LOG:
            entry.unlink()


class StepLog:
    """Whole lines, appended at once, printable. Never raises for a disk that refuses them: the step
    says so itself where it matters.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open_line = ""
        self._waiting: list[str] = []

    def wait(self, text: str) -> None:
        """A line about the attempt, to be written before the next."""
        self._waiting.append(SIGN + text)

    def note(self, text: str) -> None:
        """A line about the attempt."""
        self._append(SIGN + text)

    def write(self, text: str) -> None:
        """What was printed; the beginning of a line waits for its end. Of a line that was drawn
        again and again (a bar) the last state stays.
        """
        *lines, self._open_line = (self._open_line + text).split("\n")
        self._open_line = self._open_line[-_LINE:]
        for line in lines:
            self._append(line.rstrip("\r").rpartition("\r")[2])

    def end_line(self) -> None:
        if self._open_line:
            self.write("\n")

    def _append(self, line: str) -> None:
        lines = [*self._waiting, line]
        self._waiting = []
        text = "".join(printable(line[:_LINE]).replace("\n", " ") + "\n" for line in lines)
        with contextlib.suppress(OSError):
            handle = os.open(
                self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666
            )
            try:
                os.write(handle, text.encode("utf-8", "backslashreplace"))
                size = os.fstat(handle).st_size
            finally:
                os.close(handle)
            if size > LARGEST:
                self._shorten()

    def _shorten(self) -> None:
        content = self.path.read_bytes()
        before, content = dropped(content)
        rest = content[-KEPT:].partition(b"\n")[2]
        before += len(content) - len(rest)
        head = f"{SIGN}{before} bytes of earlier lines were left out\n".encode()
        temporary = self.path.with_name(f".{self.path.name}.tmp-{os.getpid()}")
        try:
            temporary.write_bytes(head + rest)
            temporary.replace(self.path)
        except OSError:
            temporary.unlink(missing_ok=True)


def dropped(content: bytes) -> tuple[int, bytes]:
    """How many bytes of a log are no longer there, and what follows the line that says so."""
    found = _DROPPED.match(content)
    return (int(found[1]), content[found.end() :]) if found else (0, content)


class Reader:
    """Lines that a step printed since they were last asked for, of the attempts since ``Reader``
    was made; those about the attempts are left out.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / STEP_LOG
        before, content = self._content()
        self._offset = before + len(content)

    def lines(self) -> list[str]:
        """Whole lines, without control characters; none where there is no log."""
        before, content = self._content()
        if before + len(content) < self._offset:
            self._offset = before  # another log: the artifact was removed and is made anew
        start = max(self._offset - before, 0)
        whole = content[start : content.rfind(b"\n") + 1]
        self._offset = before + start + len(whole)
        text = whole.decode("utf-8", "replace")
        return [printable(line) for line in text.split("\n")[:-1] if not line.startswith(SIGN)]

    def _content(self) -> tuple[int, bytes]:
        try:
            return dropped(read_plain(self.path, 2 * LARGEST))
        except OSError:
            return 0, b""


class _Tee:
    """A stream that is also, or only, the step's log."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, log: StepLog, stream: TextIO | None) -> None:
        self._log, self._stream = log, stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._log.write(text)
        if self._stream is not None:
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def writable(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            raise AttributeError(name)
        return getattr(self._stream, name)
