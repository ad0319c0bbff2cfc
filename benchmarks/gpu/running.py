"""Measurements one after another, each in a process of its own that its limit ends; a line for
each, written when it ends.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.gpu.given import Given, Skipped
from benchmarks.gpu.order import Measurement

# How a measurement ended.
MEASURED, SKIPPED, FAILED, NO_MEMORY = "measured", "skipped", "failed", "out of memory"
TOO_SLOW, DIED, NOT_REACHED = "too slow", "died", "not reached"
FORKED = "forked"  # from a process that had already begun with its device
# What is left of the time must be worth starting a measurement.
LEAST = 4.0
# CUDA's own check of whether there is a GPU would leave forked processes without one.
ENVIRONMENT = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}


@dataclass
class Output:
    """Lines of JSON, each on the disk when ``line`` returns."""

    path: Path

    def __post_init__(self) -> None:
        self.file = self.path.open("w", encoding="utf-8")

    def line(self, entry: dict[str, Any]) -> None:
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def run(
    listed: Iterable[Measurement],
    given: Given,
    *,
    seconds: float,
    line: Callable[[dict[str, Any]], None],
    method: str = "forkserver",
) -> None:
    """Take the measurements within so many ``seconds`` all in all; ``line`` is called when each
    ends. method: how processes are started; where one cannot use the device because of that, it and
    all after it are started afresh.
    """
    deadline = time.monotonic() + seconds
    for measurement in listed:
        left = deadline - time.monotonic()
        entry: dict[str, Any] = {"measurement": measurement.name}
        if left < min(LEAST, measurement.limit):
            line({**entry, "outcome": NOT_REACHED})
            continue
        started = time.monotonic()
        bounded = replace(given, limit=min(measurement.limit, left))
        found = in_process(measurement, bounded, method)
        if found["outcome"] == FORKED:
            method = "spawn"
            found = in_process(measurement, bounded, method)
        if (peak := found.get("peak_flops")) is not None:
            given = replace(given, peak=peak)
        line({**entry, **found, "took_s": round(time.monotonic() - started, 2)})


def in_process(measurement: Measurement, given: Given, method: str) -> dict[str, Any]:
    """What one measurement came to, with its ``outcome``; never later than its limit."""
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_work,
        args=(theirs, measurement.work, given, dict(measurement.options)),
        name=measurement.name,
        daemon=False,  # tests are processes of its own
    )
    process.start()
    theirs.close()
    found: dict[str, Any] | None = None
    with suppress(EOFError):
        if ours.poll(given.limit):
            found = ours.recv()
        else:
            found = {"outcome": TOO_SLOW, "reason": f"no end after {given.limit:.0f} s"}
    # One that has told all may take its time over ending: nobody waits for that.
    process.join(1.0 if found is not None and found["outcome"] != TOO_SLOW else 0.0)
    if found is None:
        process.join(5.0)
        found = {"outcome": DIED, "reason": _ending(process.exitcode)}
    _kill(process.pid)
    process.join()
    return found


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _kill(pid: int | None) -> None:
    """The process and all that it started."""
    assert pid is not None
    for kill in (os.killpg, os.kill):
        with suppress(OSError):
            kill(pid, signal.SIGKILL)


def _work(told: Connection, work: str, given: Given, options: dict[str, Any]) -> None:
    """In the process of a measurement."""
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    told.send(_outcome(work, given, options))
    told.close()
    # Without the farewells of libraries, which can hang as well as what was measured.
    os._exit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)


def _outcome(work: str, given: Given, options: dict[str, Any]) -> dict[str, Any]:
    import torch

    from parsing_models.parsers.interface import out_of_memory

    try:
        if torch.cuda._is_in_bad_fork():
            return {"outcome": FORKED}
        module, name = work.split(":")
        found = getattr(importlib.import_module(module), name)(given, **options)
        return {"outcome": MEASURED, **found}
    except Skipped as reason:
        return {"outcome": SKIPPED, "reason": str(reason)}
    except Exception as error:
        memory = isinstance(error, RuntimeError | MemoryError) and out_of_memory(error)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return {
            "outcome": NO_MEMORY if memory else FAILED, "reason": text[:500], "at": _place(error),
        }  # fmt: skip


def _place(error: BaseException) -> str:
    """File and line of the project's code that raised it, as far in as that goes."""
    project = Path(__file__).resolve().parents[2]
    trace, found = error.__traceback__, ""
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(project) and "site-packages" not in path.parts:
            found = f"{path.relative_to(project).as_posix()}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found
