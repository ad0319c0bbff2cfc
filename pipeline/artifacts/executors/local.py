"""Worker processes of this machine: dask's, forked from one that has imported what they need."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.executors.needs import GPU
from pipeline.artifacts.store import Execution

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

_END_SECONDS = 5.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DASK = ("distributed.nanny", "distributed.worker", "tblib.pickling_support")
_CONFIG: dict[str, Any] = {
    # A fork of a process that only ever imported: no threads, no GPU, and torch is there at once.
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.worker.daemon": False,  # steps may have processes of their own
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ": {},  # threads are ours to choose
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.allowed-failures": 3,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.admin.tick.limit": "1h",  # a step holds the interpreter: no news
}


class LocalWorkers:
    """Processes that are started in the background as soon as this is made, so that what needs none
    of them can be done meanwhile. They end with ``close``, and when this process dies, however.

    count: how many. modules: what they will need, imported once for all of them. gpus: one for each
    of the first workers, by what CUDA_VISIBLE_DEVICES calls it; the others see none. None: the
    machine has none, and nothing is said of them.
    """

    def __init__(
        self, count: int, modules: Sequence[str], gpus: Sequence[str] | None = None
    ) -> None:
        self.count, self._gpus = count, gpus
        self._stack = contextlib.ExitStack()
        self._cluster: SpecCluster | None = None
        self._client: Client | None = None
        self._error: BaseException | None = None
        _start_server([*_DASK, *modules])
        # Here: of two threads that import dask at once one finds half of it.
        from pipeline.artifacts.executors import quiet  # noqa: F401

        self._starting = threading.Thread(target=self._start, name="start-workers", daemon=True)
        self._starting.start()

    def client(self) -> Client:
        """A client of the workers, once they are there."""
        self._starting.join()
        if self._error is not None:
            raise self._error
        assert self._client is not None
        return self._client

    def _start(self) -> None:
        try:
            import dask.config
            from distributed import Client, Nanny, SpecCluster

            from pipeline.artifacts.executors.quiet import QuietScheduler, QuietWorker

            folder = self._stack.enter_context(
                tempfile.TemporaryDirectory(prefix="reidpipe-workers-", ignore_cleanup_errors=True)
            )
            self._stack.enter_context(dask.config.set(_CONFIG))
            self._stack.enter_context(_silent())
            place = {"host": "127.0.0.1", "protocol": "tcp://"}
            options: dict[str, Any] = {
                **place,
                "nthreads": 1,
                "memory_limit": 0,
                "local_directory": folder,
                "worker_class": QuietWorker,
                "silence_logs": logging.CRITICAL,
                "dashboard": False,
            }
            self._cluster = SpecCluster(
                scheduler={"cls": QuietScheduler, "options": {**place, "dashboard": False}},
                workers={
                    number: {"cls": Nanny, "options": {**options, **self._gpu_of(number)}}
                    for number in range(self.count)
                },
            )
            self._client = Client(self._cluster, set_as_default=False)
        except BaseException as error:  # told by who asks for the client
            self._error = error

    def _gpu_of(self, number: int) -> dict[str, Any]:
        if self._gpus is None:
            return {}
        if number < len(self._gpus):
            return {"env": {_VISIBLE: self._gpus[number]}, "resources": {GPU: 1}}
        return {"env": {_VISIBLE: ""}}

    def close(self, *, at_once: bool = False) -> None:
        """End them. at_once: they are at work, and are not waited for."""
        end = time.monotonic() + _END_SECONDS
        while self._starting.is_alive() and time.monotonic() < end:
            if at_once:
                _kill(multiprocessing.active_children())
            self._starting.join(0.05)
        if self._cluster is not None and at_once:
            for nanny in list(self._cluster.workers.values()):
                nanny.close_gracefully()  # so that none is started in its place
            _kill(multiprocessing.active_children())
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):
            if self._client is not None:
                self._client.close(timeout=1 if at_once else _END_SECONDS)
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):
            if self._cluster is not None:
                self._cluster.close(timeout=1 if at_once else _END_SECONDS)
        self._stack.close()


def _kill(children: list[Any]) -> None:
    """End dask's workers among ``children``: they are stopped at work, as by a power cut."""
    for child in children:
        if child.name.startswith("Dask Worker") and child.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def _start_server(modules: list[str]) -> None:
    """Start the process that workers are forked from; it imports meanwhile.

    Ctrl-C in a terminal reaches all processes of the command: the first one alone decides what
    ends. The server looks for modules where this process does.
    """
    multiprocessing.set_forkserver_preload(modules)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)), PYTHONSAFEPATH="1"):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(**changed: str) -> Iterator[None]:
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


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without dask's and tornado's own lines: what happened to a step is told by who asked."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


def jobs_of(execution: Execution) -> int:
    """Steps that this machine has room for side by side: one for each GPU that may be used, else
    its cores divided by the threads of a step.
    """
    if execution.device != "cpu" and (gpus := gpus_here()):
        return 1 if ":" in execution.device else len(gpus)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // (execution.threads or 1))


def gpus_here() -> list[str] | None:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES calls them, without asking a
    driver; None on a machine without.
    """
    numbers = sorted(
        int(path.name.removeprefix("nvidia"))
        for path in Path("/dev").glob("nvidia[0-9]*")
        if path.name.removeprefix("nvidia").isdigit()
    )
    if not numbers:
        return None
    typed = os.environ.get(_VISIBLE)
    if typed is not None:
        return [name.strip() for name in typed.split(",") if name.strip()]
    return [str(place) for place, _ in enumerate(numbers)]
