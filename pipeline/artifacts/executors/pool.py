"""The engines of one command: started when first needed, and used until it ends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.executors.inline import ThisProcess
from pipeline.artifacts.executors.walking import Engine, width
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from pipeline.artifacts.executors.local import LocalWorkers


class Pool:
    """A context. Inside, ``engine`` gives what executes a part of ``todo``, all that the command
    may have to make; no more processes than steps can be made side by side, and none for a chain.
    """

    def __init__(self, workspace: Workspace, execution: Execution, todo: Sequence[Step]) -> None:
        self._workspace, self._execution, self._todo = workspace, execution, todo
        self._stack = contextlib.ExitStack()
        self._local: LocalWorkers | None = None
        self._device = execution.device  # as its own workers see it
        self._client: Any = None

    def __enter__(self) -> Pool:
        wide = width(self._todo)
        if self._execution.jobs == 1 or wide < 2 or self._execution.cluster is not None:
            return self
        if "RANK" in os.environ:  # the processes of torchrun make each step together
            return self
        from pipeline.artifacts.executors.local import LocalWorkers, gpus_here, jobs_of

        jobs = min(self._execution.jobs or jobs_of(self._execution), wide)
        if jobs > 1:
            modules = [step.kind.worker.partition(":")[0] for step in self._todo]
            kind, _, number = self._execution.device.partition(":")
            gpus = gpus_here() if kind != "cpu" else None
            if gpus and number:  # the one typed, which its worker sees as its first
                gpus = gpus[int(number) : int(number) + 1]
                self._device = kind
            if gpus and any(step.kind.collective for step in self._todo):
                gpus = shared_out(gpus, jobs, self._execution.processes)
            self._local = LocalWorkers(
                jobs,
                list(dict.fromkeys(modules)),
                gpus,
                dashboard=self._execution.dashboard,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        finally:
            if self._local is not None:
                self._local.close(at_once=error is not None)

    def engine(self, todo: Sequence[Step]) -> Engine:
        """What makes ``todo``."""
        execution = self._execution
        if execution.cluster is not None:
            from pipeline.artifacts.executors import fitness
            from pipeline.artifacts.executors.cluster import connect
            from pipeline.artifacts.executors.workers import Workers

            if self._client is None:
                self._client = self._stack.enter_context(connect(execution.cluster))
            unfit = partial(fitness.unfit, self._client, execution.cluster.workspace)
            return Workers(self._client, self._workspace, execution, unfit)
        if self._local is None or width(todo) < 2:
            return ThisProcess(self._workspace, execution)
        from pipeline.artifacts.executors.workers import Workers

        return Workers(
            self._local.client(),
            self._workspace,
            replace(
                execution,
                workers=max(1, execution.workers // self._local.count),
                device=self._device,
            ),
        )


def shared_out(gpus: Sequence[str], jobs: int, processes: int) -> list[str]:
    """``processes`` of the GPUs for each of ``jobs`` workers, as CUDA_VISIBLE_DEVICES names them.
    With one process for each training, as many GPUs as there are, one for each worker. Raises
    ReidpipeError where there are not enough.
    """
    if processes > 1 and jobs * processes > len(gpus):
        most = len(gpus) // processes
        raise ReidpipeError(
            f"found {len(gpus)} GPU for {jobs} jobs of --processes-per-job {processes}; expected "
            f"{jobs * processes}, one for each process; type --jobs {max(1, most)}"
            + ("" if most else " and --processes-per-job 1")
        )
    starts = range(0, len(gpus) - processes + 1, processes)
    return [",".join(gpus[start : start + processes]) for start in starts]
