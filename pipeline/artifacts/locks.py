"""Who is at work on what: locks that die with their holder, also across machines.

Two things are held together: a lock of the operating system, which a killed process lets go at
once, and a lease (``pipeline/artifacts/leases.py``), which other machines see where such locks end
at a machine (NFS without locks) or do not exist.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.artifacts.leases import STALE, Place, Who, beating, this_kernel
from pipeline.terminal.errors import ReidpipeError

log = logging.getLogger(__name__)

LEASE = ".lease"
_POLL_SECONDS = 0.2
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


class Held(Exception):
    """Another process holds the lock, and the caller does not wait."""


@dataclass(frozen=True)
class Lease:
    """A lock that is held."""

    path: Path
    place: Place
    who: Who

    def check(self) -> None:
        """Raise ReidpipeError when another machine has taken over, as it does when it has seen no
        sign of life: nothing more may be written.
        """
        if not self.place.is_ours(self.who):
            raise ReidpipeError(
                f"found {self.path.name.removesuffix('.lock')} taken over by another machine: this "
                f"process gave no sign of life for {STALE:.0f} s (stopped, or cut off from "
                f"{self.path.parent}); expected to be alone; type the command again"
            )


@contextlib.contextmanager
def holding(
    path: Path, told: str | None, *, wait: bool = True, kernel: str | None = None
) -> Iterator[Lease]:
    """Hold the lock at ``path``, a file that stays. ``told`` says what another holder does, in a
    warning before this waits for it; None: nothing, since it is over at once. Raises Held instead
    of waiting where ``wait`` is false; a machine that has given no sign of life is given the time
    to do so even then. kernel: as whose process, in tests.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    place = _place(path, kernel)
    with contextlib.ExitStack() as stack:
        alone = locks_work(path)
        if alone:
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                if not wait:
                    raise Held(told) from error
                if told is not None:
                    log.warning("%s by another process: waiting", told)
                lock.acquire()
            stack.callback(lock.release)
        warned = False
        while (who := place.take(alone=alone)) is None:
            if not wait and place.beats():
                raise Held(told)
            if told is not None and not warned and place.holder() is not None:
                log.warning(
                    "%s on another machine, or was until it died: waiting, at most %.0f s from its "
                    "last sign of life",
                    *(told, STALE),
                )
                warned = True
            time.sleep(_POLL_SECONDS)
        stack.callback(place.give_back, who)
        stack.enter_context(beating(place, who))
        yield Lease(path, place, who)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock at ``path`` now, on this machine or another one."""
    place = _place(path)
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # none of ours to read
            return False
        return place.beats()
    held = place.holder()
    # Nobody of this kernel holds the lease, or he would hold the lock.
    return held is not None and held[1].kernel != place.kernel and place.beats()


def drop_dead_leases(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove the leases that killed processes of this machine have left in ``folder``, which is
    looked through once. names: of locks, without ``.lock``; None: all.
    """
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            found = {entry.name.partition(".lease")[0] for entry in entries if LEASE in entry.name}
        for name in sorted(found if names is None else found.intersection(names)):
            lock = folder / f"{name}.lock"
            held = _place(lock).holder()
            if held is None or _is_dead(held[1], lock):
                with contextlib.suppress(Held), holding(lock, None, wait=False):
                    pass  # who has had it leaves nothing


def _is_dead(who: Who, lock: Path) -> bool:
    """Whether the lease can be taken over at once, unless this machine's lock is held."""
    kernel = this_kernel()
    return who.kernel == kernel and (locks_work(lock) or who.is_gone(kernel))


def locks_work(path: Path) -> bool:
    """Whether the file system of ``path`` has locks, of this machine at least; said once if not."""
    device = path.parent.stat().st_dev
    if device not in _WORKING:
        _WORKING[device] = _tried(path)
    return _WORKING[device]


# By device. A trial looks like a holder to others for a moment: one is enough.
_WORKING: dict[int, bool] = {}


def _tried(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.warning(
                "%s: the file system has no locks (%s); processes keep apart by leases, files that "
                "they touch: after a kill on another machine the next may wait for up to %.0f s",
                *(path.parent, error.strerror, STALE),
            )
            return False
    return True


def _place(path: Path, kernel: str | None = None) -> Place:
    name = path.name.removesuffix(".lock") if path.name != ".lock" else path.name
    return Place(path.with_name(f"{name}{LEASE}"), path, kernel)
