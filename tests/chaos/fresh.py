"""Commands as people start them, in a process that has imported nothing: struck while it starts,
while it imports and while it works, alone or with steps side by side; and worker processes that are
killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

from tests.chaos.children import Child, Story, _left, session
from tests.chaos.commands import Command
from tests.chaos.ground import Ground, alone
from tests.chaos.killed import ENDED, faults
from tests.conftest import PROJECT

COMMAND, SEVERAL = "own", "several"


@dataclass
class Fresh:
    """A process, the signal and after how many seconds it came."""

    signal: str
    after: float
    code: int = 0
    faults: list[str] = field(default_factory=list)


def fresh(ground: Ground, draw: random.Random) -> Fresh:
    """Half of them within the first second after the start."""
    command = ground.commands[COMMAND]
    ground.left_by(COMMAND)
    ground.lay(command)
    number = draw.choice([signal.SIGKILL, signal.SIGINT, signal.SIGINT, signal.SIGTERM])
    after = draw.uniform(0.0, 1.0) if draw.random() < 0.5 else draw.uniform(1.0, 9.0)
    told = Fresh(signal.Signals(number).name, round(after, 3))
    process = _started(ground, command, jobs=1)
    time.sleep(after)
    running = process.poll() is None
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    told.code = process.returncode
    story = Story(code=told.code, stderr=stderr, left=_left(process.pid))
    told.faults += [f"left a process: {pid}" for pid in story.left]
    if not story.silent:
        told.faults.append(f"a traceback: {stderr[-2500:]}")
    # Before Python has come to our first line and after it has left our last, the signal's own
    # effect is the end: the shell's code is the same, and there is no line.
    allowed = {ENDED[number], -number} | (set() if running and number == signal.SIGKILL else {0})
    if told.code not in allowed:
        told.faults.append(f"exit {told.code}, expected {allowed}: {stderr[-1500:]}")
    if (
        told.code in (130, 143)
        and sum(line.startswith("Stopped. ") for line in stderr.splitlines()) != 1
    ):
        told.faults.append(f"not one line: {stderr[-1500:]}")
    again = ground.run(command)
    told.faults += faults(again, None) + ground.believed() + ground.compared(COMMAND).faults
    return told


def _started(ground: Ground, command: Command, jobs: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "reid_train", "--workspace", str(ground.root), *command.words],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "REIDPIPE_JOBS": str(jobs)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=alone if jobs == 1 else None,
    )


def side_by_side(ground: Ground, draw: random.Random) -> Fresh:
    """Three trainings on two workers: one of these is killed, or the command is; what one process
    makes in peace is made in the end.
    """
    command = ground.commands[SEVERAL]
    ground.left_by(SEVERAL)
    ground.lay(command)
    number = draw.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM, None, None, None])
    told = Fresh("worker" if number is None else signal.Signals(number).name, 0.0)
    process = _started(ground, command, jobs=2)
    began = time.monotonic()
    while process.poll() is None and len(workers := _workers(process.pid)) < 2:
        time.sleep(0.05)
    time.sleep(draw.uniform(0.0, 6.0))
    told.after = round(time.monotonic() - began, 3)
    if number is not None:
        process.send_signal(number)
    elif process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(workers), signal.SIGKILL)
    _, stderr = process.communicate(timeout=300)
    told.code = process.returncode
    told.faults += [f"left a process: {pid}" for pid in _left(process.pid)]
    if "Traceback" in stderr or "Exception ignored" in stderr:
        told.faults.append(f"a traceback: {stderr[-2500:]}")
    allowed = {0} if number is None else {0, ENDED[number], -number}
    if told.code not in allowed:
        told.faults.append(f"exit {told.code}, expected {allowed}: {stderr[-1500:]}")
    again = _started(ground, command, jobs=2)
    _, stderr = again.communicate(timeout=300)
    if again.returncode:
        told.faults.append(f"again: exit {again.returncode}: {stderr[-1500:]}")
    told.faults += ground.believed() + ground.compared(SEVERAL).faults
    return told


def _workers(leader: int) -> list[int]:
    """Processes of dask's workers: forks of a server, which is the oldest of them."""
    alike = sorted(
        pid for pid, line in session(leader).items() if "multiprocessing.forkserver" in line
    )
    return alike[1:]


def worker_killed(ground: Ground, draw: random.Random) -> tuple[bool, list[str]]:
    """``prepare`` on two cores, one of whose worker processes is killed; whether one was, and what
    was wrong.
    """
    command = ground.commands["prepare"]
    ground.left_by("prepare")
    ground.lay(command)
    child = Child(command.words, ground.root, prepare=lambda: None)
    killed, after = False, draw.uniform(0.0, 1.5)
    seen = 0.0
    while (story := child.poll()) is None:
        workers = [pid for pid, line in session(child.pid).items() if "spawn_main" in line]
        if workers and not seen:
            seen = time.monotonic()
        if workers and not killed and time.monotonic() - seen > after:
            os.kill(draw.choice(workers), signal.SIGKILL)
            killed = True
        time.sleep(0.01)
    found = [f"left a process: {pid}" for pid in story.left]
    lines = [line for line in story.stderr.splitlines() if line.startswith("Error: ")]
    if story.code and (story.code != 2 or len(lines) != 1 or "killed from outside" not in lines[0]):
        found.append(f"exit {story.code}: {story.stderr[-2500:]}")
    if not story.silent:
        found.append(f"a traceback: {story.stderr[-2500:]}")
    found += ground.believed() + faults(ground.run(command), None)
    return killed and story.code != 0, found + ground.compared("prepare").faults
