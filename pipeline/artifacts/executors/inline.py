"""Steps one after another in this process."""

from __future__ import annotations

import time

from pipeline.artifacts.executors.walking import Ended, Lost, Started
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace


class ThisProcess:
    """The engine that needs no other process; per-image work may still be spread by the steps."""

    together = 1

    def __init__(self, workspace: Workspace, execution: Execution) -> None:
        self._workspace, self._execution = workspace, execution
        self._step: Step | None = None
        self._told = False

    def takes(self, step: Step) -> bool:
        """Whether none is waiting."""
        del step
        return self._step is None

    def begin(self, step: Step) -> None:
        """Put it next in line."""
        self._step, self._told = step, False

    def event(self) -> Started | Lost | Ended:
        """First that the step starts, then, when asked again, how it ended: it is made meanwhile.
        Ctrl-C propagates.
        """
        step = self._step
        assert step is not None
        if not self._told:
            self._told = True
            return Started(step)
        began = time.monotonic()
        self._step = None
        try:
            self._workspace.make(step, self._execution)
        except Exception as error:
            return Ended(step, time.monotonic() - began, error)
        return Ended(step, time.monotonic() - began)
