"""The models of a command are runs as soon as each is complete, whatever becomes of the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.artifacts import torchrun
from pipeline.artifacts.runs import Run, place, record_runs

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Step
    from pipeline.artifacts.store import Workspace
    from pipeline.artifacts.telling import Telling


@contextlib.contextmanager
def recorded(workspace: Workspace, runs: Iterable[Run], telling: Telling) -> Iterator[Recording]:
    """What a command that makes the models of ``runs`` tells, as ``telling``. Inside, each that is
    not yet written down is when its model is made; those whose model is complete already at once,
    and when this is left, however it is, those of which nobody could tell any more (a worker ended
    its step while the command was being stopped). Under torchrun the first process does.
    """
    recording = Recording(workspace, runs if torchrun.rank() == 0 else (), telling)
    recording.look()
    try:
        yield recording
    finally:
        recording.look()


class Recording:
    """A ``Telling`` that writes runs down."""

    def __init__(self, workspace: Workspace, runs: Iterable[Run], telling: Telling) -> None:
        self._workspace, self._telling = workspace, telling
        named = {run.name: run for run in runs}  # a model that is tested on several is one run
        self._waiting = [run for run in named.values() if not place(workspace, run).is_file()]

    def look(self) -> None:
        """Write down those whose model is complete."""
        self._record([run for run in self._waiting if self._workspace.complete(run.model)])

    def _record(self, complete: list[Run]) -> None:
        for run in record_runs(self._workspace, complete):
            self._waiting = [other for other in self._waiting if other.name != run.name]

    def __call__(self, step: Step) -> None:
        """As a plain function that announces steps."""
        self.started(step)

    def queued(self, steps: Sequence[Step], *, together: int = 1) -> None:
        self._telling.queued(steps, together=together)

    def started(self, step: Step) -> None:
        self._telling.started(step)

    def finished(self, step: Step, seconds: float) -> None:
        self._record([run for run in self._waiting if run.model.key == step.key])
        self._telling.finished(step, seconds)

    def failed(self, step: Step, error: BaseException) -> None:
        self._telling.failed(step, error)

    def lost(self, step: Step) -> None:
        self._telling.lost(step)

    def close(self) -> None:
        self._telling.close()
