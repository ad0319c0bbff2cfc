"""Artifacts are taken away, whole or in part: killed at any moment, and beside who is at work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.artifacts.graph import run
from pipeline.artifacts.mark import MARK
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Artifact, Workspace
from tests.pipeline.artifacts import workers

KINDS = [kind for kind in workers.KINDS if kind in ("pair", "pair-resumable", "pair-separate")]
FILES = ("first.txt", "second.txt")


class Killed(BaseException):
    """A process that gets no further."""


@contextmanager
def struck(artifact: Artifact, number: int) -> Iterator[list[str]]:
    """Inside, the process dies before its change ``number`` (0, 1, ...) of the names in the
    artifact's folder and of the folder itself; the list says which changes it came to make.
    """
    made: list[str] = []

    def dying(change: Callable[..., None]) -> Callable[..., None]:
        def changed(path: str | Path, *more: object, **options: object) -> None:
            name = Path(path).name
            if name in (*FILES, MARK, artifact.key) or name.startswith(f".{artifact.key}"):
                if len(made) == number:
                    raise Killed
                made.append(f"{change.__name__} {name}")
            change(path, *more, **options)

        return changed

    with pytest.MonkeyPatch.context() as patched, suppress(Killed):
        for change in (os.unlink, os.rename, os.rmdir):
            patched.setattr(os, change.__name__, dying(change))
        yield made


def damaged(root: Path, kind: str, early: str = "second.txt") -> tuple[Workspace, Step, Artifact]:
    """An artifact of two files whose first is damaged."""
    workspace = Workspace(root)
    step = Step(kind, {"early": "" if kind == "pair-separate" else early})
    run(workspace, [step])
    (artifact,) = workspace.artifacts()
    (artifact.folder / "first.txt").write_text("other")
    assert workspace.damage(artifact) == ["first.txt"]
    return workspace, step, artifact


def remade(workspace: Workspace, step: Step) -> list[str]:
    """Both files after the damage that is still told was repaired and the step asked for."""
    for artifact in workspace.artifacts():
        if names := workspace.damage(artifact):
            assert workspace.repair(artifact, names)
    run(workspace, [step])
    assert [
        path for path in workspace.folder(step).parent.iterdir() if "removed" in path.name
    ] == []
    return [(workspace.folder(step) / name).read_text() for name in FILES]


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("kind", KINDS)
def test_a_repair_killed_at_any_moment_hides_no_damage(tmp_path: Path, kind: str, number: int):
    workspace, step, artifact = damaged(tmp_path, kind)
    with struck(artifact, number) as changes:
        workspace.repair(artifact, ["first.txt"])
    assert changes[:number] == changes
    assert remade(workspace, step) == ["first.txt", "second.txt"]


def test_a_repair_makes_the_changes_that_were_struck(tmp_path: Path):
    found = {}
    for kind in KINDS:
        _, _, artifact = damaged(tmp_path / kind, kind)
        with struck(artifact, 99) as changes:
            Workspace(tmp_path / kind).repair(artifact, ["first.txt"])
        found[kind] = [change.replace(artifact.key, "KEY") for change in changes]
    whole = found["pair"]
    assert whole[0] == "rename KEY" and whole[-1] == "rmdir .KEY.removed" and len(whole) == 5
    assert found["pair-resumable"][0] == "rename KEY"
    assert found["pair-separate"] == ["unlink first.txt", f"unlink {MARK}"]


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("early", FILES)  # whichever of them is deleted first
def test_a_removal_killed_at_any_moment_leaves_no_half(tmp_path: Path, early: str, number: int):
    """Where a part was gone, a worker that looks at the other would leave it so for good."""
    workspace, step, artifact = damaged(tmp_path, "pair-resumable", early)
    (artifact.folder / "first.txt").write_text("first.txt")
    with struck(artifact, number):
        workspace.remove(artifact)
    assert remade(workspace, step) == ["first.txt", "second.txt"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_being_made_is_neither_removed_nor_repaired(tmp_path: Path, kind: str):
    workspace, _, artifact = damaged(tmp_path, kind)
    with workspace._lock(kind, artifact.key):
        assert not workspace.remove(artifact)
        assert not workspace.repair(artifact, ["first.txt"])
    assert (artifact.folder / "second.txt").exists() and artifact.complete


def test_what_was_made_anew_meanwhile_is_not_repaired(tmp_path: Path):
    workspace, _, artifact = damaged(tmp_path, "pair")
    (artifact.folder / "first.txt").write_text("first.txt")
    assert not workspace.repair(artifact, ["first.txt"])
    assert artifact.complete and workspace.damage(artifact) == []


def test_a_linked_folder_of_separate_files_leads_nowhere(tmp_path: Path):
    workspace, _, artifact = damaged(tmp_path / "workspace", "pair-separate")
    (tmp_path / "canary").write_text("mine")
    (artifact.folder / "sub").symlink_to(tmp_path)
    mark = json.loads((artifact.folder / MARK).read_text())
    mark["files"] = {"sub/canary": {"size": 1, "sha256": "0" * 64}}
    (artifact.folder / MARK).write_text(json.dumps(mark))
    assert workspace.repair(artifact, ["sub/canary"])
    assert (tmp_path / "canary").read_text() == "mine" and not artifact.folder.exists()
