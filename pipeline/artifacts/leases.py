"""Leases: files that say who is at work, where the locks of the operating system end at a machine.

A lease stands at one place as a chain of files: the first at the place itself, each further one
beside it, named by the lease that it takes over. Every file is made by one process alone and the
names of leases are never used again, so that whoever stands at the end of the chain holds it. A
holder keeps touching its file. Another machine takes over when it has seen no touch for ``STALE``
seconds of its own clock: no two clocks are compared.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BEAT = 5.0
STALE = 45.0
_LONGEST = 64  # takeovers in a chain; one is folded as soon as it is taken


@dataclass(frozen=True)
class Who:
    """A process, among all that share a file system.

    kernel: of those with an equal one, each sees the others' processes and locks: host name, boot
    and namespace of process ids. start: of the process, since ids are used again.
    """

    kernel: str
    pid: int
    start: str
    token: str

    @classmethod
    def here(cls, kernel: str | None = None) -> Who:
        """This process, under a new token."""
        pid = os.getpid()
        return cls(kernel or this_kernel(), pid, _start(pid), secrets.token_hex(12))

    def is_gone(self, kernel: str) -> bool:
        """Whether it is seen from here that the process has ended; ``kernel`` is this one."""
        return self.kernel == kernel and bool(self.start) and _start(self.pid) != self.start


class Place:
    """Where a lease is kept; what one machine sees of it. clock: a file on the same file system,
    which may be touched. kernel: this one, but in tests.
    """

    def __init__(self, path: Path, clock: Path, kernel: str | None = None) -> None:
        self.path, self.clock, self.kernel = path, clock, kernel or this_kernel()
        self._seen: tuple[Any, float] | None = None

    def holder(self) -> tuple[Path, Who] | None:
        """Who stands at the end of the chain, and in which file; None where nobody does."""
        found, path = None, self.path
        for _ in range(_LONGEST):
            who = _read(path)
            if who is None:
                break
            found = path, who
            path = self._after(who.token)
        return found

    def take(self, *, alone: bool) -> Who | None:
        """Hold it if nobody does, or nobody any more; None while somebody may. alone: this process
        has the operating system's lock, so that no other of its kernel holds the lease.
        """
        held = self.holder()
        if held is None:
            return self._append(self.path)
        path, who = held
        gone = who.is_gone(self.kernel) or (alone and who.kernel == self.kernel)
        if not gone and not self._is_stale(path, who):
            return None
        return self._append(self._after(who.token))

    def is_ours(self, who: Who) -> bool:
        """Whether ``who`` still stands at the end of the chain."""
        held = self.holder()
        return held is not None and held[1] == who

    def touch(self, who: Who) -> bool:
        """Say that ``who`` is at work; whether the lease is still its own."""
        held = self.holder()
        if held is None or held[1] != who:
            return False
        with contextlib.suppress(FileNotFoundError):
            os.utime(held[0])
        return True

    def give_back(self, who: Who) -> None:
        """Let the next one in at once; nothing where it was taken over."""
        if not self.is_ours(who):
            return
        after = self._after(who.token)  # nobody can take over what is given back
        if not _write(after, Who(self.kernel, 0, "", secrets.token_hex(12))):
            return
        self._drop_but(after)  # what holders killed in this very method left
        self.path.unlink(missing_ok=True)
        after.unlink(missing_ok=True)

    def beats(self) -> bool:
        """Whether it was touched lately, by the clock of the file system itself."""
        held = self.holder()
        if held is None or held[1].is_gone(self.kernel):
            return False
        try:
            os.utime(self.clock)
            return self.clock.stat().st_mtime - held[0].stat().st_mtime < STALE
        except FileNotFoundError:
            return False
        except OSError:  # not ours to write
            return True

    def _append(self, path: Path) -> Who | None:
        who = Who.here(self.kernel)
        if not _write(path, who):
            return None
        if not self.is_ours(who):  # the chain it was appended to is gone
            path.unlink(missing_ok=True)
            return None
        if path != self.path:
            # Fold the chain; whoever reads of it meanwhile finds this at its end or begins again.
            with contextlib.suppress(FileNotFoundError):
                path.replace(self.path)
            if not self.is_ours(who):
                return None
            self._drop_but(self._after(who.token))
        return who

    def _drop_but(self, after: Path) -> None:
        """Remove every further file of earlier chains; ``after`` is of this one."""
        for left in self.path.parent.glob(f"{glob.escape(self.path.name)}-*"):
            if left != after:
                left.unlink(missing_ok=True)

    def _is_stale(self, path: Path, who: Who) -> bool:
        try:
            with path.open("rb") as file:  # opening is what a network file system looks again for
                sign = who.token, os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            sign = who.token, None
        now = time.monotonic()
        if self._seen is None or self._seen[0] != sign:
            self._seen = sign, now
        return now - self._seen[1] >= STALE

    def _after(self, token: str) -> Path:
        return self.path.with_name(f"{self.path.name}-{token}")


@contextlib.contextmanager
def beating(place: Place, who: Who) -> Iterator[None]:
    """Inside, a thread keeps touching the lease."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            with contextlib.suppress(OSError):  # a file system away for a moment
                if not place.touch(who):
                    return

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@functools.cache
def this_kernel() -> str:
    """A name of what this process sees of processes and locks; no other machine has it, nor another
    container, which may not see the same processes.
    """
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{platform.node()} {boot} {namespace}"


def _start(pid: int) -> str:
    """When a process was started; "" where there is none, or none can be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _write(path: Path, who: Who) -> bool:
    """Make the file unless there is one."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(handle, json.dumps(asdict(who)).encode())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return True


def _read(path: Path) -> Who | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        value = json.loads(text)
        return Who(*(kind(value[name]) for name, kind in _FIELDS.items()))
    except (ValueError, TypeError, KeyError):
        # Half written, or by somebody else: it goes stale like any other.
        return Who("?", 0, "", f"unread-{path.stat().st_ino if path.exists() else 0}")


_FIELDS = {"kernel": str, "pid": int, "start": str, "token": str}
