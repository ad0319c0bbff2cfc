"""Models are runs as soon as they are made, whatever becomes of the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifacts import runs
from pipeline.artifacts.graph import attempt, run
from pipeline.artifacts.recording import recorded
from pipeline.artifacts.runs import Run, list_runs, record_runs
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from pipeline.artifacts.telling import Announced
from tests.pipeline.artifacts import workers

assert "number" in workers.KINDS


def models(*kinds: str) -> list[Run]:
    """A run of each kind of step, called a, b, ..."""
    steps = [Step(kind, {"value": number}) for number, kind in enumerate(kinds)]
    return [Run.of(name, "d", 0, step) for name, step in zip("abcd", steps, strict=False)]


def names(workspace: Workspace) -> list[str]:
    return [run.recipe for run in list_runs(workspace)]


def make(workspace: Workspace, asked: list[Run], started: Callable[[Step], None]) -> None:
    """As a command does that says ``started`` of each step."""
    with recorded(workspace, asked, Announced(started)) as announce:
        run(workspace, [one.model for one in asked], announce=announce)


def test_a_model_is_a_run_while_the_others_are_made(tmp_path: Path):
    workspace, seen = Workspace(tmp_path), []
    make(workspace, models("number", "number", "number"), lambda _: seen.append(names(workspace)))
    assert seen == [[], ["a"], ["a", "b"]] and names(workspace) == ["a", "b", "c"]


def test_what_was_made_before_a_stop_is_a_run(tmp_path: Path):
    workspace = Workspace(tmp_path)
    first, second = models("number", "number")

    def stop(step: Step) -> None:
        if step.key == second.model.key:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(workspace, [first, second], stop)
    assert names(workspace) == ["a"]


def test_what_was_made_beside_a_failure_is_a_run(tmp_path: Path):
    workspace = Workspace(tmp_path)
    first, second = models("fail_after_writing", "number")
    with recorded(workspace, [first, second], Announced(lambda _: None)) as announce:
        outcome = attempt(
            workspace,
            [first.model, second.model],
            first=(),
            check=lambda _: None,
            announce=announce,
        )
    assert [failed.step for failed in outcome.failed] == [first.model]
    assert names(workspace) == ["b"]


def test_a_worker_that_ended_when_nobody_listened_any_more(tmp_path: Path):
    workspace = Workspace(tmp_path)
    asked = models("number", "number")
    with pytest.raises(KeyboardInterrupt), recorded(workspace, asked, Announced(lambda _: None)):
        workspace.make(asked[0].model, Execution())
        raise KeyboardInterrupt
    assert names(workspace) == ["a"]


def test_models_of_an_earlier_command_are_runs_before_anything_is_made(tmp_path: Path):
    workspace, seen = Workspace(tmp_path), []
    asked = models("number", "number")
    workspace.make(asked[1].model, Execution())
    make(workspace, asked, lambda _: seen.append(names(workspace)))
    assert seen == [["b"]] and names(workspace) == ["b", "a"]


def test_a_run_that_is_known_keeps_its_date_and_one_model_may_have_two_names(tmp_path: Path):
    workspace = Workspace(tmp_path)
    (first,) = models("number")
    record_runs(workspace, [first])
    (before,) = list_runs(workspace)
    other = Run.of("z", "d", 0, first.model)
    make(workspace, [first, other, first], lambda _: None)
    kept, new = list_runs(workspace)
    assert kept == before and new.recipe == "z" and new.created > kept.created


def test_under_torchrun_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    workspace, asked = Workspace(tmp_path), models("number")
    with recorded(workspace, asked, Announced(lambda _: None)) as announce:
        announce.finished(asked[0].model, 1.0)
    assert names(workspace) == []


def test_a_table_of_runs_looks_at_those_before_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workspace = Workspace(tmp_path)
    asked = models("number", "number", "number", "number")
    record_runs(workspace, asked)
    read: list[str] = []
    usual = runs.read_json
    monkeypatch.setattr(runs, "read_json", lambda path: read.append(str(path)) or usual(path))

    def rebuilt(*_: object) -> None:
        raise AssertionError("a step was rebuilt to know a date")

    with monkeypatch.context() as patched:
        patched.setattr(Step, "from_plain", rebuilt)
        again = record_runs(workspace, asked[:3])
    assert len(read) == 4  # each once, for three that are written
    dates = [run.created for run in again]
    assert dates == sorted(set(dates))
    assert names(workspace) == ["d", "a", "b", "c"]
