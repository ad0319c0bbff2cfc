"""Commands in processes that can be struck at any moment: forks of one that has imported
everything, so that a kill costs what the command does and not ten times as much in imports.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

PATIENCE = 300.0  # seconds after which a child that does not end is a failure
LEAST = 1e-3  # seconds of CPU time without which a step is not yet at work
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}


@dataclass(frozen=True)
class Strike:
    """When a signal comes: ``after`` seconds since the ``step`` began (of any name: since the
    command did), or just before the ``change``-th change of a file below the workspace.
    """

    signal: int = signal.SIGKILL
    step: str | None = None
    after: float = 0.0
    change: int | None = None


@dataclass
class Story:
    """What became of a command. steps: (name, seconds) in the order they began. changes: of files.
    struck: whether the strike came while it ran. at_work: the step it hit, by name, when its worker
    had begun, had used CPU time and had not yet left its mark. left: processes that outlive it.
    """

    code: int = 0
    seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""
    steps: list[tuple[str, float]] = field(default_factory=list)
    changes: int = 0
    struck: bool = False
    at_work: str | None = None
    left: list[int] = field(default_factory=list)

    @property
    def silent(self) -> bool:
        """Whether it told no bug."""
        return "Traceback" not in self.stderr and "Exception ignored" not in self.stderr


class Child:
    """A command that runs. ``prepare`` is called in it first: limits, patches."""

    def __init__(
        self,
        words: Sequence[str],
        root: Path,
        strike: Strike | None = None,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self.strike, self.root = strike, root
        self.story = Story()
        self.open: dict[str, tuple[str, float, float]] = {}  # key -> name, began, CPU time then
        self.buffer = b""
        self.output = [os.memfd_create(name) for name in ("stdout", "stderr")]
        self.pipe, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _live(["--workspace", str(root), *words], root, write, self.output, strike, prepare)
        os.close(write)

    def wait(self) -> Story:
        """Strike it when its moment comes; its story when it has ended."""
        while (story := self.poll()) is None:
            near = self.strike is not None and self.strike.change is None and not self.story.struck
            select.select([self.pipe], [], [], 0.002 if near else 0.02)
        return story

    def poll(self) -> Story | None:
        """As ``wait``, of one that may run on: None."""
        if time.monotonic() - self.began > PATIENCE:
            os.killpg(self.pid, signal.SIGKILL)
            raise TimeoutError(f"a command has not ended after {PATIENCE} s")
        status = self._ended()
        self._read()
        if status is None:
            self._strike()
            return None
        story = self.story
        story.seconds = time.monotonic() - self.began
        story.code = os.waitstatus_to_exitcode(status)
        story.stdout, story.stderr = (_content(handle) for handle in self.output)
        os.close(self.pipe)
        story.left = _left(self.pid)
        return story

    def _ended(self) -> int | None:
        found, status = os.waitpid(self.pid, os.WNOHANG)
        return status if found else None

    def _read(self) -> None:
        while select.select([self.pipe], [], [], 0)[0]:
            part = os.read(self.pipe, 65536)
            if not part:
                break
            *lines, self.buffer = (self.buffer + part).split(b"\n")
            for line in lines:
                self._hear(*line.decode().split(" "))

    def _hear(self, event: str, *said: str) -> None:
        if event == "begin":
            name, key, cpu = said
            self.open[key] = (name, time.monotonic(), float(cpu))
        elif event == "end":
            name, began, _ = self.open.pop(said[0])
            self.story.steps.append((name, time.monotonic() - began))
        elif event == "changes":
            self.story.changes = int(said[0])
        elif event == "strike":  # by itself, before a change of a file
            self.story.struck = True
            self._at_work(float(said[0]))

    def _at_work(self, cpu: float) -> None:
        for name, _, before in self.open.values():
            if cpu > before + LEAST:
                self.story.at_work = name

    def _strike(self) -> None:
        strike = self.strike
        if strike is None or strike.change is not None or self.story.struck:
            return
        since = self.began
        if strike.step is not None:
            begun = [began for name, began, _ in self.open.values() if name == strike.step]
            if not begun:
                return
            since = begun[0]
        if time.monotonic() - since < strike.after:
            return
        cpu = _cpu_seconds(self.pid)
        try:
            os.kill(self.pid, strike.signal)
        except ProcessLookupError:
            return
        self._read()
        self.story.struck = True
        self._at_work(cpu)


def run(words: Sequence[str], root: Path, **how: Any) -> Story:
    """The story of one command."""
    return Child(words, root, **how).wait()


def limited(size: int) -> None:
    """No file of this process grows beyond ``size`` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


# ------------------------------------------------------------------ in the child


def _live(
    line: list[str],
    root: Path,
    pipe: int,
    output: list[int],
    strike: Strike | None,
    prepare: Callable[[], None],
) -> None:
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, handle in enumerate(output, start=1):
            os.dup2(handle, number)
        tell = partial(_tell, pipe)
        _announce_steps(tell)
        changes = _Changes(root, strike, tell)
        sys.addaudithook(changes)
        import cli

        prepare()
        try:
            cli.main(args=line, prog_name="reidpipe")
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        tell(f"changes {changes.count}")
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _tell(pipe: int, text: str) -> None:
    os.write(pipe, f"{text}\n".encode())


def _announce_steps(tell: Callable[[str], None]) -> None:
    """``begin`` when the worker of a step is called, ``end`` when its mark is written; of a gallery
    likewise while it is held for writing.
    """
    from pipeline.artifacts.steps import Step
    from pipeline.artifacts.store import Workspace
    from reid_train.search import writing

    resolve, make, one_writer = Step.resolve, Workspace.make, writing.one_writer
    begun: set[str] = set()

    def resolved(self: Step) -> Any:
        worker = resolve(self)

        def work(job: Any) -> Any:
            begun.add(self.key)
            tell(f"begin {self.name} {self.key} {time.process_time()}")
            return worker(job)

        return work

    def made(self: Workspace, step: Step, *rest: Any, **named: Any) -> Any:
        result = make(self, step, *rest, **named)
        if step.key in begun:
            begun.discard(step.key)
            tell(f"end {step.key}")
        return result

    @contextlib.contextmanager
    def held(folder: Path) -> Iterator[None]:
        with one_writer(folder):
            tell(f"begin gallery gallery {time.process_time()}")
            yield
        tell("end gallery")

    Step.resolve, Workspace.make, writing.one_writer = resolved, made, held


class _Changes:
    """Counts the changes of files that Python makes beside and below ``root``, and strikes."""

    def __init__(self, root: Path, strike: Strike | None, tell: Callable[[str], None]) -> None:
        self.place, self.count = str(root.parent), 0
        self.strike, self.tell = strike, tell

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(args[2], int) or not args[2] & _WRITING:
                return
        elif event not in _CHANGES:
            return
        path = args[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self.place):
            return
        self.count += 1
        if self.strike is not None and self.count == self.strike.change:
            self.tell(f"strike {time.process_time()}")
            os.kill(os.getpid(), self.strike.signal)


# ------------------------------------------------------------------ about processes


def _content(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    with open(handle, "rb") as file:
        return file.read().decode(errors="replace")


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads: its clock, as clock_getcpuclockid(3) numbers it."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def session(leader: int) -> dict[int, str]:
    """Processes of a session that live, by id: their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] not in "ZX":
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = line.decode(errors="replace")
        except OSError:
            continue
    return found


def _left(leader: int, patience: float = 5.0) -> list[int]:
    """Processes of the session that do not end by themselves in time; they are killed then."""
    until = time.monotonic() + patience
    while (found := session(leader)) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return list(found)
