"""Workers that other processes execute: they find them by name."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from pipeline.artifacts.kinds import KINDS, Kind
from pipeline.artifacts.steps import Job
from pipeline.terminal.errors import ReidpipeError

KINDS |= {
    name: Kind(f"{__name__}:{name}", 1, resumable=name == "died_once")
    for name in ("counted", "mistaken", "broken", "died_once", "deadly", "long", "placed")
}


def counted(job: Job) -> dict[str, Any]:
    """The sum of the inputs and of ``value``; which process made it stands beside."""
    total = job.params["value"]
    for folder in job.inputs.values():
        total += int((folder / "number.txt").read_text())
    (job.folder / "number.txt").write_text(str(total))
    with (job.workspace / "calls.txt").open("a") as file:
        file.write(f"{job.params['value']} {os.getpid()}\n")
    time.sleep(job.params.get("seconds", 0))
    return {"total": total}


def mistaken(job: Job) -> dict[str, Any]:
    """Fail as for a user's mistake."""
    raise ReidpipeError(f"found {job.params['value']}; expected another; type it")


def broken(job: Job) -> dict[str, Any]:
    """Fail as for a mistake of ours, with a cause and a note."""
    try:
        raise OSError(5, "cause")
    except OSError as cause:
        error = ValueError("of ours")
        error.add_note("a note")
        raise error from KeyError(job.params["value"], str(cause))


def died_once(job: Job) -> dict[str, Any]:
    """Kill the process at the first attempt."""
    flag = job.workspace / f"died-{job.params['value']}"
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return counted(job)


def deadly(job: Job) -> dict[str, Any]:
    """Kill the process at every attempt."""
    with (job.workspace / "deaths.txt").open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def long(job: Job) -> dict[str, Any]:
    """Say which process, and never end."""
    (job.workspace / f"pid-{job.params['value']}").write_text(str(os.getpid()))
    time.sleep(600)
    return {}


def placed(job: Job) -> dict[str, Any]:
    """Say at which worker of dask it was made."""
    from distributed import get_worker

    return {"worker": get_worker().address}
