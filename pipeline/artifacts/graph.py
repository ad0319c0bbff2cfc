"""Steps that are missing become one graph, which engines execute, side by side where they can."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts.executors.pool import Pool
from pipeline.artifacts.executors.walking import walk
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from pipeline.artifacts.telling import telling_of
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.machine import of_the_machine


@dataclass(frozen=True)
class Failed:
    """A step that raised ``error``. log: the file that has more of it, which need not exist."""

    step: Step
    error: Exception
    log: Path


@dataclass(frozen=True)
class Outcome:
    """What a request did: the steps it executed and those it found complete, by key; those that
    failed, and those that were left because they stand on failed ones.
    """

    made: tuple[Step, ...]
    reused: tuple[Step, ...]
    failed: tuple[Failed, ...] = ()
    left: tuple[Step, ...] = ()

    def after(self, first: Outcome) -> Outcome:
        """This and what was asked for before it, for the same command."""
        reused = tuple(step for step in self.reused if step not in first.made)
        return Outcome(first.made + self.made, reused, first.failed + self.failed, self.left)

    def check(self) -> None:
        """Raise what failed, if anything did: a mistake of this program itself before a user's
        mistakes; of several of these ``Unfinished``, which tells all.
        """
        for failed in self.failed:
            if not isinstance(failed.error, ReidpipeError) and not of_the_machine(failed.error):
                failed.error.add_note("\n".join(self.told()))
                raise failed.error
        if len(self.failed) == 1 and not self.made and len(self.left) < 2:
            raise self.failed[0].error
        if self.failed:
            raise Unfinished(self)

    def told(self) -> list[str]:
        """A line for each step that failed or was left, and one for what was made."""
        lines = [
            f"failed {failed.step.name} {failed.step.key[:8]}: {_reason(failed.error)} "
            f"(log {failed.log})"
            for failed in self.failed
        ]
        broken = {failed.step.key for failed in self.failed}
        for step in self.left:
            cause = _cause(step, broken)
            lines.append(f"left {step.name} {step.key[:8]}: it stands on {cause}")
        lines.append(
            f"made {len(self.made)} artifacts, reused {len(self.reused)}, failed "
            f"{len(self.failed)}, left {len(self.left)}"
        )
        return lines


class Unfinished(ReidpipeError):
    """Several steps of a request were not made. outcome: which, and why."""

    def __init__(self, outcome: Outcome) -> None:
        first = outcome.failed[0]
        super().__init__(
            f"found {len(outcome.failed)} of the steps failed, the first {first.step.name} "
            f"{first.step.key[:8]}: {_reason(first.error)}"
        )
        self.outcome = outcome


def _reason(error: Exception) -> str:
    if isinstance(error, ReidpipeError):
        return str(error)
    return of_the_machine(error) or f"{type(error).__name__}: {error}"


def _cause(step: Step, broken: set[str]) -> str:
    """The failed step below this one that is nearest, as words."""
    for source in step.inputs.values():
        if source.key in broken:
            return f"{source.name} {source.key[:8]}"
    found = (_cause(source, broken) for source in step.inputs.values())
    return next(filter(None, found), "")


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

    ``announce`` is called with each step when it begins. Up to ``execution.jobs`` steps are made
    side by side, each in a process of its own, or as many as a cluster has workers; a chain of
    steps, and all with one job, in this process, where those with per-image work spread it over
    ``execution.workers`` processes. Nothing is imported for it when nothing is missing.

    A step that fails stops what stands on it and nothing else. When the rest is made, what failed
    is raised, as ``Outcome.check`` says.
    """
    outcome = attempt(workspace, targets, execution, announce=announce)
    outcome.check()
    return outcome


def attempt(
    workspace: Workspace,
    targets: Iterable[Step],
    execution: Execution | None = None,
    *,
    first: Iterable[Step] = (),
    check: Callable[[], None] = lambda: None,
    announce: Callable[[Step], None] = lambda _: None,
) -> Outcome:
    """As ``run_checked``, but what failed after the check is told in the outcome, not raised."""
    targets = list(targets)
    execution = execution or Execution()
    todo = missing(workspace, targets)
    workspace.check_reused(_closure(targets))
    if not todo:
        return Outcome((), _reused(targets, []))
    first = list(first)
    with Pool(workspace, execution, todo) as pool:
        before = _execute(workspace, first, pool, announce)
        before.check()
        check()
        return _execute(workspace, targets, pool, announce).after(before)


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
    outcome = attempt(workspace, targets, execution, first=first, check=check, announce=announce)
    outcome.check()
    return outcome


def _execute(
    workspace: Workspace, targets: list[Step], pool: Pool, announce: Callable[[Step], None]
) -> Outcome:
    todo = missing(workspace, targets)
    if not todo:
        return Outcome((), _reused(targets, []))
    walked = walk(todo, pool.engine(todo), telling_of(announce))
    failed = tuple(
        Failed(step, error, workspace.folder(step) / "step.log") for step, error in walked.failed
    )
    ended = {step.key for step in walked.made} | {step.key for step, _ in walked.failed}
    left = tuple(step for step in todo if step.key not in ended)
    return Outcome(tuple(walked.made), _reused(targets, todo), failed, left)


def _reused(targets: list[Step], todo: list[Step]) -> tuple[Step, ...]:
    keys = {step.key for step in todo}
    return tuple(step for step in _closure(targets) if step.key not in keys)


def _closure(targets: Iterable[Step]) -> list[Step]:
    found: dict[str, Step] = {}

    def visit(step: Step) -> None:
        for source in step.inputs.values():
            visit(source)
        found.setdefault(step.key, step)

    for target in targets:
        visit(target)
    return list(found.values())
