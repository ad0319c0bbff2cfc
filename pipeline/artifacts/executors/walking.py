"""The order in which the steps of a graph are made, whatever engine makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from typing import Protocol

from pipeline.artifacts.steps import Step
from pipeline.artifacts.telling import Telling


@dataclass(frozen=True)
class Started:
    """A step is at work now."""

    step: Step


@dataclass(frozen=True)
class Lost:
    """The worker of a step has died; the step begins again elsewhere."""

    step: Step


@dataclass(frozen=True)
class Ended:
    """A step is made, after so many seconds, or raised ``error``."""

    step: Step
    seconds: float
    error: Exception | None = None


class Engine(Protocol):
    """What makes steps."""

    @property
    def together(self) -> int:
        """How many it makes side by side."""
        ...

    def takes(self, step: Step) -> bool:
        """Whether it could begin with ``step`` now; depends on the step's kind alone."""
        ...

    def begin(self, step: Step) -> None:
        """Begin with a step whose inputs are complete, or put it next in line. Returns at once."""
        ...

    def event(self) -> Started | Lost | Ended | None:
        """Wait for what happens next to the steps that were begun, each of which ends once; None:
        what it takes may have changed.
        """
        ...


@dataclass
class Walked:
    """What became of steps: those made, those that raised, in the order in which they ended."""

    made: list[Step] = field(default_factory=list)
    failed: list[tuple[Step, Exception]] = field(default_factory=list)


def walk(todo: Sequence[Step], engine: Engine, telling: Telling) -> Walked:
    """Make ``todo``, inputs before what they feed. A step that fails keeps those from being made
    that stand on it, and no others. Of steps that could begin, where several are made side by side,
    that one does which most depends on.
    """
    walked = Walked()
    steps = {step.key: step for step in todo}
    sorter: TopologicalSorter[str] = TopologicalSorter(_inputs(todo))
    sorter.prepare()
    rank = ranks(todo) if engine.together > 1 else {key: n for n, key in enumerate(steps)}
    ready: dict[str, list[tuple[int, str]]] = {}  # by kind
    at_work = 0
    telling.queued(todo, together=engine.together)
    try:
        while True:
            for key in sorter.get_ready():
                heappush(ready.setdefault(steps[key].name, []), (rank[key], key))
            while (step := _next(ready, steps, engine)) is not None:
                engine.begin(step)
                at_work += 1
            if not at_work:
                return walked
            event = engine.event()
            if isinstance(event, Started):
                telling.started(event.step)
            elif isinstance(event, Lost):
                telling.lost(event.step)
            elif event is not None:
                at_work -= 1
                if event.error is None:
                    walked.made.append(event.step)
                    sorter.done(event.step.key)
                    telling.finished(event.step, event.seconds)
                else:
                    walked.failed.append((event.step, event.error))
                    telling.failed(event.step, event.error)
    finally:
        telling.close()


def _next(
    ready: dict[str, list[tuple[int, str]]], steps: dict[str, Step], engine: Engine
) -> Step | None:
    """Take the first of the steps that are ready and that the engine takes."""
    heads = [(heap[0], heap) for heap in ready.values() if heap]
    fitting = [(head, heap) for head, heap in heads if engine.takes(steps[head[1]])]
    if not fitting:
        return None
    _, heap = min(fitting, key=lambda pair: pair[0])
    return steps[heappop(heap)[1]]


def _inputs(todo: Sequence[Step]) -> dict[str, list[str]]:
    """Of each step, by key, those of ``todo`` it stands on."""
    keys = {step.key for step in todo}
    return {
        step.key: [source.key for source in step.inputs.values() if source.key in keys]
        for step in todo
    }


def ranks(todo: Sequence[Step]) -> dict[str, int]:
    """A place for each step, given inputs first: the longer the chain of steps that stands on it,
    the earlier.
    """
    above = _heights(todo)
    order = sorted(range(len(todo)), key=lambda number: (-above[todo[number].key], number))
    return {todo[number].key: place for place, number in enumerate(order)}


def _heights(todo: Sequence[Step]) -> dict[str, int]:
    above = {step.key: 0 for step in todo}
    inputs = _inputs(todo)
    for step in reversed(todo):
        for source in inputs[step.key]:
            above[source] = max(above[source], above[step.key] + 1)
    return above


def width(todo: Sequence[Step]) -> int:
    """How many of the steps, given inputs first, can certainly be made side by side: none of so
    many stands on another. 0 for no step.
    """
    inputs = _inputs(todo)
    below: dict[str, int] = {}
    for step in todo:
        below[step.key] = 1 + max((below[source] for source in inputs[step.key]), default=-1)
    return max(_most(below), _most(_heights(todo)))


def _most(levels: dict[str, int]) -> int:
    counts: dict[int, int] = {}
    for level in levels.values():
        counts[level] = counts.get(level, 0) + 1
    return max(counts.values(), default=0)
