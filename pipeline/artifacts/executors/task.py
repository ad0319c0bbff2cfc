"""A step as a worker of dask executes it, and what comes back of it."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline import plugins
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace

# torch's threads and generators belong to the process.
_ONE_AT_A_TIME = threading.Lock()


class StrangeError(RuntimeError):
    """An error of a worker that cannot leave its process: its traceback as text."""


@dataclass(frozen=True)
class Performed:
    """How long it took, and what the step raised."""

    seconds: float
    error: Exception | None = None


@dataclass(frozen=True)
class Task:
    """Plain data and a step: all that a worker process needs, which shares nothing with us but the
    workspace.

    name: the task's, which the worker says under ``topic`` when it is at work on it. plugins: of
    the user, in order.
    """

    step: Step
    name: str
    workspace: Workspace
    execution: Execution
    topic: str
    plugins: tuple[str, ...] = ()

    def __call__(self) -> Performed:
        """Make the step, one after another in each process. Raises nothing."""
        from distributed import get_worker

        worker = get_worker()
        execution = replace(self.execution, scheduler=worker.scheduler.address)
        began = time.monotonic()
        try:
            plugins.ensure(self.plugins)
            if self.step.kind.spread:  # it waits for tasks of its own and computes nothing
                worker.log_event(self.topic, self.name)
                self.workspace.make(self.step, execution)
            else:
                with _ONE_AT_A_TIME:
                    worker.log_event(self.topic, self.name)
                    began = time.monotonic()
                    self.workspace.make(self.step, execution)
        except Exception as error:
            return Performed(time.monotonic() - began, portable(error))
        return Performed(time.monotonic() - began)


def sent() -> Callable[[bytes], Performed]:
    """What a worker calls with a ``Task`` as bytes, before it has looked for any module of ours."""
    from pipeline.artifacts.executors.fitness import ours_first

    first = ours_first()

    def work(task: bytes) -> Performed:
        first()
        from distributed.protocol.serialize import deserialize_bytes

        return deserialize_bytes(task)()

    return work


def portable(error: Exception) -> Exception:
    """``error`` so that it leaves its process with its type, notes, causes and tracebacks; a
    StrangeError in its place where it cannot.
    """
    from distributed.protocol.serialize import deserialize_bytes, serialize_bytes
    from tblib import pickling_support

    pickling_support.install(error)
    try:
        if type(deserialize_bytes(serialize_bytes(error))) is type(error):
            return error
    except Exception:  # noqa: S110 - whatever its class does instead of being pickled
        pass
    text = "".join(traceback.format_exception(error))
    return StrangeError(f"{type(error).__name__} in a worker process:\n{text}")
