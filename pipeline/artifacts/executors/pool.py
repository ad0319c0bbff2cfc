"""The engines of one command: started when first needed, and used until it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.executors.inline import ThisProcess
from pipeline.artifacts.executors.walking import Engine, width
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace

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
        self._client: Any = None

    def __enter__(self) -> Pool:
        wide = width(self._todo)
        if self._execution.jobs == 1 or wide < 2 or self._execution.cluster is not None:
            return self
        from pipeline.artifacts.executors.local import LocalWorkers, gpus_here, jobs_of

        jobs = min(self._execution.jobs or jobs_of(self._execution), wide)
        if jobs > 1:
            modules = [step.kind.worker.partition(":")[0] for step in self._todo]
            on_gpus = self._execution.device != "cpu"
            self._local = LocalWorkers(
                jobs, list(dict.fromkeys(modules)), gpus_here() if on_gpus else None
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
            from pipeline.artifacts.executors.cluster import connect
            from pipeline.artifacts.executors.workers import Workers

            if self._client is None:
                self._client = self._stack.enter_context(connect(execution.cluster))
            return Workers(self._client, self._workspace, execution)
        if self._local is None or width(todo) < 2:
            return ThisProcess(self._workspace, execution)
        from pipeline.artifacts.executors.workers import Workers

        return Workers(
            self._local.client(),
            self._workspace,
            replace(execution, workers=max(1, execution.workers // self._local.count)),
        )
