"""How many threads a step computes with on a CPU: chosen once per machine, and recorded.

Threads share a sum, and sums shared in another way round otherwise: the number of threads is part
of what a result depends on. So it follows neither from the number of jobs nor from the cores that
happen to be free. What does not depend on threads to the bit (batches and images side by side, each
in one thread) takes ``Job.workers`` instead.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import platform
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.artifacts.atomic import read_json, write_json
from pipeline.artifacts.locks import holding
from pipeline.terminal.errors import DamagedFile, ReidpipeError

log = logging.getLogger(__name__)

MACHINES = "machines"  # folder of a workspace: what each machine computes with
VARIABLE = "REIDPIPE_THREADS"
# What a user has chosen: ours first.
CHOSEN_BY = (VARIABLE, "OMP_NUM_THREADS")
MOST = 4
LIMIT = 1024
# What libraries that compute read when they are loaded.
_AT_LOADING = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# How long threads wait awake: turns of GNU's OpenMP, a thirtieth of its own number; milliseconds of
# LLVM's and Intel's (200 of its own); of OpenBLAS two to that power of clock ticks (26 of its own).
_WAITING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1", "OPENBLAS_THREAD_TIMEOUT": "20"}


def suited(cores: int) -> int:
    """The threads of a step on a machine with so many cores: half of them, 1 to 4.

    Two threads need 1.3 to 1.5 times the CPU time of one for the same training, four twice as much:
    steps side by side use cores better than threads inside a step. A step never has the machine to
    itself, so that two of them fit; more than four threads gain nothing on batches of images.
    """
    return max(1, min(MOST, cores // 2))


def threads_of(root: Path, *, record: bool = True) -> int:
    """The threads of a step on this machine in the workspace ``root``.

    ``REIDPIPE_THREADS`` wins, then ``OMP_NUM_THREADS``; where it is another number than this
    machine has had in the workspace, that is said once. Else it is the recorded number. At first
    use what the environment says, or else ``suited``, is recorded, unless only asked for (record).
    Affinity (taskset) has no say.
    Raises ReidpipeError for a variable that is no number.
    """
    asked = _asked()
    recorded = recorded_threads(root)
    if recorded is None:
        if not record:
            return asked[1] if asked else suited(cores_here())
        recorded = _record(root, asked)
    if asked is None:
        return recorded
    variable, number = asked
    if number != recorded:
        _tell(variable, number, recorded, file_of(root))
    return number


def recorded_threads(root: Path) -> int | None:
    """What is recorded of this machine; None before its first step. Raises DamagedFile."""
    path = file_of(root)
    if not path.is_file():
        return None
    content = read_json(path)
    found = content.get("threads") if isinstance(content, dict) else None
    if type(found) is not int or not 1 <= found <= LIMIT:
        raise DamagedFile(
            f"found threads {str(found)[:40]} in {path}; expected a number from 1 to {LIMIT}; "
            "delete that file to have it chosen again"
        )
    return found


def file_of(root: Path) -> Path:
    """Where the number of this machine is recorded: by its host name."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", platform.node()).lstrip(".")[:100]
    return root / MACHINES / f"{name or 'unnamed'}.json"


def cores_here() -> int:
    """Cores of this machine, whichever of them this process may use; of a container with a quota of
    CPU time as many as that is worth.
    """
    cores = os.cpu_count() or 1
    return max(1, min(cores, math.ceil(quota))) if (quota := _quota()) else cores


def cores_allowed() -> int:
    """Cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def sleep_soon() -> None:
    """Threads of libraries that are loaded after this sleep soon when they have nothing to do,
    unless the user says otherwise. Spinning for longer gains nothing on cores that are free and
    takes them from everybody on cores that are shared. No result depends on it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in _WAITING.items():
            os.environ.setdefault(name, value)


@contextlib.contextmanager
def environment(**changed: str) -> Iterator[None]:
    """Inside, variables of this process's environment have these values."""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Pools:
    """The threads of this process's libraries, which belong to all of its threads: those that ask
    for a number may begin and end in any order. The last who is inside has what it asked for; the
    last who leaves gives back what was there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: list[list[int]] = []  # a list each: equal numbers are not the same
        self._before = contextlib.ExitStack()

    def enter(self, asked: list[int]) -> None:
        with self._lock:
            if not self._inside:
                self._before.enter_context(_restored())
            self._inside.append(asked)
            _limit(asked[0])

    def leave(self, asked: list[int]) -> None:
        with self._lock:
            last = self._inside[-1] is asked
            self._inside = [one for one in self._inside if one is not asked]
            if not self._inside:
                self._before.close()
            elif last:
                _limit(self._inside[-1][0])

    def current(self) -> int | None:
        with self._lock:
            return self._inside[-1][0] if self._inside else None


_POOLS = _Pools()


def current() -> int | None:
    """The threads that whoever is inside ``computing_with`` has asked for; None: nobody is."""
    return _POOLS.current()


@contextlib.contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Inside, torch, BLAS and OpenMP compute with so many threads in this process: those that are
    loaded, and those that will be. Also where another thread of the process, which asked for as
    many, leaves meanwhile: a step that waits for its chunks computes nothing.
    """
    asked = [threads]
    _POOLS.enter(asked)
    try:
        yield
    finally:
        _POOLS.leave(asked)


def _limit(threads: int) -> None:
    from threadpoolctl import threadpool_limits

    sleep_soon()
    os.environ.update(dict.fromkeys(_AT_LOADING, str(threads)))
    threadpool_limits(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)  # threadpoolctl reaches this thread alone


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Whatever is set inside, what was set before is set afterwards."""
    from threadpoolctl import threadpool_limits

    torch: Any = sys.modules.get("torch")
    kept = torch.get_num_threads() if torch is not None else None
    unchanged = threadpool_limits(None)
    with environment(**{name: os.environ.get(name, "") for name in _AT_LOADING}):
        yield
    unchanged.restore_original_limits()
    if torch is not None:
        torch.set_num_threads(kept)


def _asked() -> tuple[str, int] | None:
    for name in CHOSEN_BY:
        text = os.environ.get(name, "").strip()
        if not text:
            continue
        # OpenMP takes a list: the first is of the outer level, the only one here.
        first = text.split(",")[0].strip() if name != VARIABLE else text
        if not (
            first.isascii() and first.isdigit() and len(first) < 6 and 1 <= int(first) <= LIMIT
        ):
            raise ReidpipeError(
                f"found {name}={text[:40]}; expected a number of threads from 1 to {LIMIT}; "
                f"type {name}=1 before the command, or unset {name}"
            )
        return name, int(first)
    return None


def _record(root: Path, asked: tuple[str, int] | None) -> int:
    path = file_of(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with holding(path.with_suffix(".lock"), f"{path.name} is being written"):
        found = recorded_threads(root)
        if found is None:
            cores = cores_here()
            found = asked[1] if asked else suited(cores)
            chosen_by = asked[0] if asked else "cores"
            write_json(path, {"threads": found, "cores": cores, "chosen_by": chosen_by})
        return found


@functools.cache
def _tell(variable: str, number: int, recorded: int, path: Path) -> None:
    log.warning(
        "%s=%d: this machine has computed with %d threads in this workspace (%s); results differ "
        "in the last bits, and are kept under the same keys",
        *(variable, number, recorded, path),
    )


def _quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Cores worth of CPU time that this process's groups may use, the least of them; 0 for all."""
    found = []
    for group in _groups(own):
        for place in (root / group, root / "cpu" / group, root / "cpu,cpuacct" / group):
            with contextlib.suppress(OSError, ValueError):
                if (place / "cpu.max").is_file():
                    given, period = (place / "cpu.max").read_text().split()
                else:
                    given = (place / "cpu.cfs_quota_us").read_text()
                    period = (place / "cpu.cfs_period_us").read_text()
                if int(given) > 0:  # "max" is no number, -1 no quota
                    found.append(int(given) / int(period))
    return min(found, default=0.0)


def _groups(own: Path) -> list[str]:
    """Control groups of this process and all above them, relative to the root."""
    found = {"."}
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            parts = line.split(":", 2)[-1].strip("/").split("/")
            found |= {"/".join(parts[:end]) or "." for end in range(1, len(parts) + 1)}
    return sorted(found)
