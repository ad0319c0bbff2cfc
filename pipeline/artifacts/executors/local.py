"""Worker processes of this machine: dask's, forked from one that has imported what they need."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.executors import server
from pipeline.artifacts.executors.launching import dashboard_address
from pipeline.artifacts.executors.needs import GPU
from pipeline.artifacts.executors.scratch import scratch
from pipeline.artifacts.executors.threads import cores_allowed
from pipeline.artifacts.store import Execution

if TYPE_CHECKING:
    from distributed import Client, SpecCluster
    from distributed.security import Security

log = logging.getLogger(__name__)

_END_SECONDS = 5.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_GPU = re.compile(r"\d+|GPU-.+|MIG-.+")
# They log what they meet while they end.
_TALKING = ("distributed", "tornado", "asyncio", "concurrent.futures")
_DASK = ("distributed.nanny", "distributed.worker", "tblib.pickling_support")
_CONFIG: dict[str, Any] = {
    # A fork of a process that only ever imported: no threads, no GPU, and torch is there at once.
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.worker.daemon": False,  # steps may have processes of their own
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ": {},  # threads are ours to choose
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.allowed-failures": 3,
    "distributed.worker.http.routes": [],
    "distributed.admin.tick.limit": "1h",  # a step holds the interpreter: no news
}


class LocalWorkers:
    """Processes that are started in the background as soon as this is made, so that what needs none
    of them can be done meanwhile. They end with ``close``, and when this process dies, however.
    They listen on loopback, and let nobody in who has not the key that is made for them alone.

    count: how many. modules: what they will need, imported once for all of them. gpus: of each of
    the first workers, as CUDA_VISIBLE_DEVICES names one or several; the others see none. None: the
    machine has none, and nothing is said of them.
    """

    def __init__(
        self,
        count: int,
        modules: Sequence[str],
        gpus: Sequence[str] | None = None,
        *,
        dashboard: bool = False,
    ) -> None:
        self.count, self._gpus = count, gpus
        self._page = dashboard_address(dashboard)
        self._stack, self._place = contextlib.ExitStack(), contextlib.ExitStack()
        self._hush = contextlib.ExitStack()
        self._cluster: SpecCluster | None = None
        self._client: Client | None = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._starting = threading.Thread(target=self._start, name="start-workers", daemon=True)
        try:
            self._folder = self._place.enter_context(scratch())
            server.start([*_DASK, *modules])
            # Here: of two threads that import dask at once one finds half of it.
            from pipeline.artifacts.executors import quiet  # noqa: F401

            self._starting.start()
        except BaseException:
            self.close(at_once=True)
            raise

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
            from distributed import Client, Nanny, Scheduler, SpecCluster

            from pipeline.artifacts.executors.cluster import quiet
            from pipeline.artifacts.executors.quiet import QuietScheduler, QuietWorker

            if self._ended.is_set():
                return
            folder = str(self._folder)
            ours = {"temporary-directory": folder, **_routes(self._page)}
            self._stack.enter_context(dask.config.set(_CONFIG | ours))
            self._hush.enter_context(quiet(*_TALKING))
            security = _security()
            protocol = "tls://" if security else "tcp://"
            place = {"host": "127.0.0.1", "protocol": protocol, "security": security}
            options: dict[str, Any] = {
                **place,
                "nthreads": 1,
                "memory_limit": 0,
                "local_directory": folder,
                "worker_class": QuietWorker,
                "silence_logs": logging.CRITICAL,
                "dashboard": False,
            }
            served = Scheduler if self._page["dashboard"] else QuietScheduler
            self._cluster = SpecCluster(
                scheduler={"cls": served, "options": {**place, **self._page}},
                workers={
                    number: {"cls": Nanny, "options": {**options, **self._own(number)}}
                    for number in range(self.count)
                },
                security=security,
                shutdown_on_close=False,  # when Python leaves: it would wait for what was killed
            )
            self._client = Client(self._cluster, set_as_default=False, security=security)
            if self._page["dashboard"]:
                log.warning("dashboard at %s", self._client.dashboard_link)
        except BaseException as error:  # told by who asks for the client
            self._error = error

    def _own(self, number: int) -> dict[str, Any]:
        """What is a worker's own: its GPUs; and its environment is ours, not the server's."""
        env = {name: os.environ.get(name, "") for name in server.ITS_OWN}
        if self._gpus is None:
            return {"env": env}
        if number < len(self._gpus):
            seen = self._gpus[number]
            return {"env": {**env, _VISIBLE: seen}, "resources": {GPU: seen.count(",") + 1}}
        return {"env": {**env, _VISIBLE: ""}}

    def close(self, *, at_once: bool = False) -> None:
        """End them. at_once: they start, or are at work, and are not waited for."""
        self._ended.set()
        if not at_once and self._starting.is_alive():
            self._starting.join(_END_SECONDS)
        if not at_once and not self._starting.is_alive():
            self._release(_END_SECONDS)
            self._hush.close()
            self._place.close()
            return
        nannies = list(self._cluster.workers.values()) if self._cluster is not None else []
        for nanny in nannies:
            nanny.close_gracefully()  # so that none is started in its place
        server.kill()
        # What dask has in this process waits for what is gone: nobody waits for dask, and what it
        # has to say of that stays unsaid, also when it learns that Python is leaving.
        threading.excepthook = _unsaid
        threading.Thread(target=self._release, args=(1.0,), daemon=True).start()
        self._place.close()

    def _release(self, seconds: float) -> None:
        """Let go what this process has of them."""
        if self._starting.ident is not None:
            self._starting.join()
        for one in (self._client, self._cluster):
            with contextlib.suppress(TimeoutError, OSError, RuntimeError):
                if one is not None:
                    one.close(timeout=seconds)
        self._stack.close()


def _unsaid(told: threading.ExceptHookArgs) -> None:
    if "shutdown" not in str(told.exc_value):
        threading.__excepthook__(told)


def _security() -> Security | None:
    """A key and a certificate for these workers alone, in memory; None, and said, where there is no
    cryptography to make them.
    """
    from distributed.security import Security

    try:
        return Security.temporary()
    except ImportError:
        log.warning(
            "found no package cryptography: other users of this machine could run code as you "
            "through the workers' ports on loopback; type pip install cryptography"
        )
        return None


def _routes(page: dict[str, Any]) -> dict[str, Any]:
    return {} if page["dashboard"] else {"distributed.scheduler.http.routes": []}


def jobs_of(execution: Execution) -> int:
    """Steps that this machine has room for side by side: one for each GPU that may be used, or for
    each ``processes`` of them, else its cores divided by the threads of a step.
    """
    if execution.device != "cpu" and (gpus := gpus_here()):
        return 1 if ":" in execution.device else max(1, len(gpus) // execution.processes)
    return max(1, cores_allowed() // (execution.threads or 1))


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
    return [str(place) for place, _ in enumerate(numbers)] if typed is None else visible(typed)


def visible(typed: str) -> list[str]:
    """The GPUs of CUDA_VISIBLE_DEVICES, as CUDA reads it: nothing from the first that is none, such
    as -1, on.
    """
    return list(takewhile(_GPU.fullmatch, (name.strip() for name in typed.split(","))))
