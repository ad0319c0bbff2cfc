"""Workers that the tests of the store and the graph execute."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from pipeline.artifacts.kinds import KINDS, Kind
from pipeline.artifacts.steps import Job

# Each as it is, resumable, of separate files and collective: kinds of steps that only tests have.
OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("", {}),
    ("-resumable", {"resumable": True}),
    ("-separate", {"resumable": True, "separate": True}),
    ("-collective", {"collective": True}),
)
KINDS |= {
    f"{name}{suffix}": Kind(f"{__name__}:{name}", 1, **options)
    for name in ("number", "fail_after_writing", "killed_once", "slow", "reporting", "pair")
    for suffix, options in OPTIONS
}


def number(job: Job) -> dict[str, Any]:
    """Write ``params["value"]`` plus the numbers of all inputs."""
    total = job.params["value"]
    for folder in job.inputs.values():
        total += int((folder / "number.txt").read_text())
    (job.folder / "number.txt").write_text(str(total))
    with (job.workspace / "calls.txt").open("a") as file:
        file.write(f"{job.params['value']}\n")
    return {"total": total}


def pair(job: Job) -> dict[str, Any]:
    """Write ``first.txt`` and ``second.txt``, those that are not there. early: where that one is,
    both are, as of a model whose process was killed before its mark.
    """
    if job.params["early"] and (job.folder / job.params["early"]).exists():
        return {}
    for name in ("first.txt", "second.txt"):
        if not (job.folder / name).exists():
            (job.folder / name).write_text(name)
    return {}


def fail_after_writing(job: Job) -> dict[str, Any]:
    """Leave a file, then fail."""
    (job.folder / "half.txt").write_text("half")
    raise OSError(28, "No space left on device")


def killed_once(job: Job) -> dict[str, Any]:
    """Die by SIGKILL on the first call; on the second say what the first left behind."""
    left = sorted(path.name for path in job.folder.iterdir())
    if not (job.workspace / "died").exists():
        (job.workspace / "died").touch()
        (job.folder / "first.txt").write_text("1")
        os.kill(os.getpid(), signal.SIGKILL)
    return {"left": left}


def slow(job: Job) -> dict[str, Any]:
    """Take half a second, and leave one line per execution."""
    import time

    time.sleep(0.5)
    with (job.workspace / "calls.txt").open("a") as file:
        file.write("slow\n")
    return {}


def reporting(job: Job) -> dict[str, Any]:
    """Say that half is done, and wait for a file ``go`` in the workspace."""
    import time

    job.running.report(1, 2, "halves")
    while not (job.workspace / "go").exists():
        time.sleep(0.02)
    sys.stdout.write("half done\n")
    return {}
