"""Who is at work on what: locks that die with their holder."""

from __future__ import annotations

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


class Held(Exception):
    """Another process holds the lock, and the caller does not wait."""


@dataclass(frozen=True)
class Lease:
    """A lock that is held."""

    path: Path

    def check(self) -> None:
        """Raise ReidpipeError when the lock has been taken over: nothing more may be written."""


@contextlib.contextmanager
def holding(path: Path, told: str, *, wait: bool = True) -> Iterator[Lease]:
    """Hold the lock at ``path``, a file that stays. ``told`` says what another holder does, in a
    warning before this waits for it. Raises Held instead of waiting where ``wait`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise Held(told) from error
        log.warning("%s by another process: waiting", told)
        lock.acquire()
    try:
        yield Lease(path)
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock at ``path`` now."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock, or none of ours to read
        return False
    return False
