"""Steps that are missing become one graph, which engines execute, side by side where they can."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts.executors.pool import Pool
from pipeline.artifacts.executors.threads import threads_of
from pipeline.artifacts.executors.walking import Walked, walk
from pipeline.artifacts.mark import STEP_LOG
from pipeline.artifacts.steps import Step, closure
from pipeline.artifacts.store import Execution, Workspace
from pipeline.artifacts.telling import telling_of
from pipeline.artifacts.weights import bring
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
    failed, and those that were left because they stand on failed ones. reached: how many of the
    artifacts that were asked for were made.
    """

    made: tuple[Step, ...]
    reused: tuple[Step, ...]
    failed: tuple[Failed, ...] = ()
    left: tuple[Step, ...] = ()
    reached: int = 0

    def after(self, first: Outcome) -> Outcome:
        """This and what was asked for before it, for the same command."""
        made = {step.key for step in first.made}
        reused = tuple(step for step in self.reused if step.key not in made)
        failed = first.failed + self.failed
        return replace(self, made=first.made + self.made, reused=reused, failed=failed)

    def check(self) -> None:
        """Raise what failed, if anything did: a mistake of this program before a user's mistakes.
        Where several failed, or some of what was asked for was made, all of it is told:
        ``Unfinished``, or in the notes of the exception.
        """
        partly = len(self.failed) > 1 or self.reached > 0
        for failed in self.failed:
            if not isinstance(failed.error, ReidpipeError) and not of_the_machine(failed.error):
                if partly:
                    failed.error.add_note("\n".join(self.told()))
                raise failed.error
        if partly and self.failed:
            raise Unfinished(self) from self.failed[0].error
        if self.failed:
            raise self.failed[0].error

    def told(self) -> list[str]:
        """A line for each step that failed or was left, and one for what was made."""
        lines = [
            f"failed {failed.step.name} {failed.step.key[:8]}: {_reason(failed.error)} "
            f"(log {failed.log})"
            for failed in self.failed
        ]
        causes = {f.step.key: f"{f.step.name} {f.step.key[:8]}" for f in self.failed}
        for step in self.left:  # inputs come first
            found = (causes.get(source.key) for source in step.inputs.values())
            causes[step.key] = next(filter(None, found), "")
            lines.append(f"left {step.name} {step.key[:8]}: it stands on {causes[step.key]}")
        lines.append(
            f"made {len(self.made)} artifacts, reused {len(self.reused)}, failed "
            f"{len(self.failed)}, left {len(self.left)}"
        )
        return lines


class Unfinished(ReidpipeError):
    """Some of a request was not made. lines: which, and why, and what was made."""

    def __init__(self, outcome: Outcome) -> None:
        first, more = outcome.failed[0], len(outcome.failed) - 1
        told = f"{more + 1} steps failed, the first: " if more else ""
        super().__init__(told + _reason(first.error))
        self.lines = outcome.told()


def _reason(error: Exception) -> str:
    if isinstance(error, ReidpipeError):
        return str(error)
    return of_the_machine(error) or f"{type(error).__name__}: {error}"


def missing(workspace: Workspace, targets: Iterable[Step]) -> list[Step]:
    """Steps to execute for ``targets``, each once, inputs before what they feed.

    The inputs of a complete artifact are not looked at: a result stands without them.
    """
    order: dict[str, Step] = {}
    complete: dict[str, bool] = {}

    def visit(step: Step) -> None:
        if step.key not in complete:
            complete[step.key] = workspace.complete(step)
        if step.key in order or complete[step.key]:
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
    found: dict[str, Step] = {}

    def visit(step: Step) -> Step:
        if step.key not in found:
            found[step.key] = step
            if not workspace.complete(step):
                inputs = {name: visit(source) for name, source in step.inputs.items()}
                found[step.key] = replace(step, inputs=inputs, version=step.kind.version)
        return found[step.key]

    return visit(step)


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

    Published weights that the steps will load are looked for before any of them is executed. A step
    that fails stops what stands on it and nothing else. When the rest is made, what failed
    is raised, as ``Outcome.check`` says.
    """
    return run_checked(
        workspace, targets, execution, first=(), check=lambda: None, announce=announce
    )


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

    def checked(before: Outcome) -> None:
        before.check()
        check()

    outcome = attempt(workspace, targets, execution, first=first, check=checked, announce=announce)
    outcome.check()
    return outcome


def attempt(
    workspace: Workspace,
    targets: Iterable[Step],
    execution: Execution | None = None,
    *,
    first: Iterable[Step],
    check: Callable[[Outcome], None],
    announce: Callable[[Step], None] = lambda _: None,
) -> Outcome:
    """As ``run_checked``, but what failed is told in the outcome, not raised; ``check`` is given
    what became of ``first``.
    """
    targets = list(targets)
    execution = execution or Execution()
    todo = missing(workspace, targets)
    workspace.tidy(closure(targets))
    workspace.check_reused(closure(targets))
    if not todo:
        return Outcome((), _reused(targets, []))
    bring(workspace, todo, elsewhere=execution.cluster is not None)
    # Wherever the steps are made: the threads of the machine that was asked.
    execution = replace(execution, threads=execution.threads or threads_of(workspace.root))
    with Pool(workspace, execution, todo) as pool:
        before = _execute(workspace, list(first), pool, announce)
        check(before)
        broken = {failed.step.key for failed in before.failed}
        return _execute(workspace, targets, pool, announce, broken).after(before)


def _execute(
    workspace: Workspace,
    targets: list[Step],
    pool: Pool,
    announce: Callable[[Step], None],
    broken: Iterable[str] = (),
) -> Outcome:
    """``broken``: keys of steps that have failed before."""
    asked = missing(workspace, targets)
    hopeless = set(broken)
    for step in asked:  # inputs come first
        if any(source.key in hopeless for source in step.inputs.values()):
            hopeless.add(step.key)
    todo = [step for step in asked if step.key not in hopeless]
    walked = walk(todo, pool.engine(todo), telling_of(announce)) if todo else Walked()
    failed = tuple(
        Failed(step, error, workspace.folder(step) / STEP_LOG) for step, error in walked.failed
    )
    ended = {step.key for step in walked.made} | {step.key for step, _ in walked.failed}
    left = tuple(step for step in asked if step.key not in ended.union(broken))
    made = {step.key for step in walked.made}
    reached = sum(key in made for key in {target.key for target in targets})
    return Outcome(tuple(walked.made), _reused(targets, asked), failed, left, reached)


def _reused(targets: list[Step], todo: list[Step]) -> tuple[Step, ...]:
    keys = {step.key for step in todo}
    return tuple(step for step in closure(targets) if step.key not in keys)
