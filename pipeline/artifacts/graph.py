"""Steps become one dask graph whose node names are their keys; only what is missing is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace


@dataclass(frozen=True)
class Outcome:
    """What a request did: the steps it executed and those it found complete, by key."""

    made: tuple[Step, ...]
    reused: tuple[Step, ...]

    def after(self, first: Outcome) -> Outcome:
        """This and what was asked for before it, for the same command."""
        reused = tuple(step for step in self.reused if step not in first.made)
        return Outcome(first.made + self.made, reused)


def missing(workspace: Workspace, targets: Iterable[Step]) -> list[Step]:
    """Steps to execute for ``targets``, each once, inputs before what they feed.

    The inputs of a complete artifact are not looked at: a result stands without them.
    """
    order: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.key in order or workspace.complete(step):
            return
        for source in step.inputs.values():
            visit(source)
        order[step.key] = step

    for target in targets:
        visit(target)
    return list(order.values())


def renewed(workspace: Workspace, step: Step) -> Step:
    """``step`` as it stands where its artifact exists, else as it is made today: by the present
    versions of workers, under another key. What an older version of this program made is used, and
    never made by other code under the same key.
    """
    if workspace.complete(step):
        return step
    inputs = {name: renewed(workspace, source) for name, source in step.inputs.items()}
    return replace(step, inputs=inputs, version=step.kind.version)


def run(
    workspace: Workspace,
    targets: Iterable[Step],
    execution: Execution | None = None,
    *,
    announce: Callable[[Step], None] = lambda _: None,
) -> Outcome:
    """Make the artifacts of ``targets`` that are missing and reuse the rest.

    ``announce`` is called with each step just before it is executed. Steps run one after
    another in this process; those with per-image work spread it over ``execution.workers``
    processes or a cluster themselves. dask is not imported when nothing is missing.
    """
    targets = list(targets)
    execution = execution or Execution()
    todo = missing(workspace, targets)
    workspace.check_reused(_closure(targets))
    if todo:
        _execute(workspace, todo, execution, announce)
    keys = {step.key for step in todo}
    reused = {step.key: step for step in _closure(targets) if step.key not in keys}
    return Outcome(made=tuple(todo), reused=tuple(reused.values()))


def run_checked(
    workspace: Workspace,
    targets: Iterable[Step],
    execution: Execution | None = None,
    *,
    first: Iterable[Step],
    check: Callable[[], None],
    announce: Callable[[Step], None] = lambda _: None,
) -> Outcome:
    """``run``, but where something is missing the artifacts of ``first`` are made before all
    others, and then ``check``, which may look at them, is called: it raises for what would go wrong
    after hours of the other work.
    """
    targets = list(targets)
    if not missing(workspace, targets):
        return run(workspace, targets, execution, announce=announce)
    before = run(workspace, first, execution, announce=announce)
    check()
    return run(workspace, targets, execution, announce=announce).after(before)


def _execute(
    workspace: Workspace, todo: list[Step], execution: Execution, announce: Callable[[Step], None]
) -> None:
    from dask.local import get_sync

    def make(step: Step, *_: Path) -> Path:
        announce(step)
        return workspace.make(step, execution)

    planned = {step.key for step in todo}
    tasks = {
        step.key: (make, step, *[s.key for s in step.inputs.values() if s.key in planned])
        for step in todo
    }
    get_sync(tasks, [step.key for step in todo])


def _closure(targets: Iterable[Step]) -> list[Step]:
    found: dict[str, Step] = {}

    def visit(step: Step) -> None:
        for source in step.inputs.values():
            visit(source)
        found.setdefault(step.key, step)

    for target in targets:
        visit(target)
    return list(found.values())
