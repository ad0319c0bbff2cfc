"""Steps side by side as tasks of dask's workers, those of this machine or of a cluster."""

from __future__ import annotations

import logging
import queue
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline import plugins
from pipeline.artifacts.executors.needs import GPU, resources
from pipeline.artifacts.executors.task import Task, sent
from pipeline.artifacts.executors.walking import Ended, Lost, Started
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)


class Workers:
    """The engine on a client of dask; workers may come and go meanwhile.

    A step goes to the scheduler when a worker is free for it, and not before: a worker that dies
    takes nothing with it that it was not at work on.
    """

    def __init__(
        self,
        client: Client,
        workspace: Workspace,
        execution: Execution,
        unfit: Callable[[Sequence[str]], Mapping[str, Exception]] | None = None,
    ) -> None:
        """unfit: says of addresses of workers which of them cannot do this work, and why; asked of
        each when it is first seen. None: all can.
        """
        self._client, self._workspace = client, workspace
        self._execution = replace(execution, jobs=1, cluster=None, progress=False, apart=True)
        self._topic = f"reidpipe-{secrets.token_hex(8)}"
        self._work = sent()
        self._given = tuple(plugin.reference for plugin in plugins.given())
        self._at_work: dict[str, tuple[Step, Future]] = {}
        self._told: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._unfit = unfit
        self._known: set[str] = set()
        self._refused: set[str] = set()
        self._gpus: dict[str, float] = {}  # of each worker that can do the work
        client.subscribe_topic(self._topic, lambda event: self._told.put(("started", event[1])))
        client.subscribe_topic("all", self._of_the_cluster)
        self._look()

    @property
    def together(self) -> int:
        """Workers at present; more may come, and what one prints lies in logs even if it is alone:
        two at least.
        """
        return max(2, len(self._gpus))

    def takes(self, step: Step) -> bool:
        """Whether a worker is free, and a GPU where the step needs one."""
        if len(self._at_work) >= max(1, len(self._gpus)):
            return False
        needed = self._needed(step)
        if needed is None:
            return True
        taken = sum((self._needed(other) or {GPU: 0.0})[GPU] for other, _ in self._at_work.values())
        return not taken or taken + needed[GPU] <= sum(self._gpus.values())

    def begin(self, step: Step) -> None:
        """Hand it to the scheduler."""
        from distributed.protocol.serialize import serialize_bytes

        name = f"{step.name}-{step.key}-{secrets.token_hex(4)}"
        task = Task(step, name, self._workspace, self._execution, self._topic, self._given)
        future = self._client.submit(
            self._work,
            serialize_bytes(task),
            key=name,
            resources=self._needed(step),
            # The others where all of these are gone: no step waits for a worker that never comes.
            workers=sorted(self._gpus) if self._refused else None,
            allow_other_workers=bool(self._refused),
            pure=False,
        )
        self._at_work[name] = step, future
        future.add_done_callback(partial(_put, self._told, name))

    def event(self) -> Started | Lost | Ended | None:
        """Wait for the next; None: workers have come or gone."""
        while True:
            what, name = self._told.get()
            if what == "workers":
                self._look()
                return None
            if name not in self._at_work:
                continue  # of another command on the same cluster
            if what == "started":
                return Started(self._at_work[name][0])
            if what == "lost":
                return Lost(self._at_work[name][0])
            return self._ended(*self._at_work.pop(name))

    def _ended(self, step: Step, future: Future) -> Ended:
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        try:
            performed = future.result()
        except KilledWorker as error:
            told = ReidpipeError(
                f"found {error.allowed_failures + 1} workers that died at {step.name} "
                f"{step.key[:8]} (often: not enough memory); expected one to finish; type the same "
                "command with a smaller --jobs, or give workers more memory: what is saved is kept"
            )
            told.__cause__ = error
            return Ended(step, 0.0, told)
        except FutureCancelledError as error:
            told = ReidpipeError(
                f"found the dask scheduler gone while {step.name} {step.key[:8]} was being made; "
                "expected it to stay; start it again and type the same command: what is saved is "
                "kept"
            )
            told.__cause__ = error
            return Ended(step, 0.0, told)
        except Exception as error:  # it cannot even be sent or begun
            return Ended(step, 0.0, error)
        return Ended(step, performed.seconds, performed.error)

    def _needed(self, step: Step) -> dict[str, float] | None:
        most, processes = max(self._gpus.values(), default=0.0), self._execution.processes
        return resources(step.kind, self._execution.device, most, processes)

    def _look(self) -> None:
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        come = sorted(workers.keys() - self._known)
        self._known.update(come)
        if come and self._unfit is not None:
            for address, why in self._unfit(come).items():
                self._refused.add(address)
                log.warning("%s; the others go on without it", why)
        self._refused &= workers.keys()
        self._gpus = {
            address: float(worker.get("resources", {}).get(GPU, 0.0))
            for address, worker in workers.items()
            if address not in self._refused
        }

    def _of_the_cluster(self, event: tuple[float, Any]) -> None:
        """In the client's thread: what the scheduler says of its workers."""
        told = event[1] if isinstance(event[1], dict) else {}
        if told.get("action") in ("add-worker", "remove-worker"):
            for name in told.get("processing-tasks", ()):
                self._told.put(("lost", name))
            self._told.put(("workers", None))


def _put(told: queue.SimpleQueue[tuple[str, Any]], name: str, _future: Future) -> None:
    told.put(("ended", name))
