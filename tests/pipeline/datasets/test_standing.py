"""A dataset that was copied or moved keeps what was made of it; changed bytes do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.artifacts import graph, requests
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.datasets.index import read_index
from pipeline.datasets.roots import prepare_root
from pipeline.datasets.sources import index_step
from pipeline.datasets.standing import COPY_OF
from pipeline.terminal.errors import DamagedFile
from tests.pipeline.datasets.test_fingerprints import image, later


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for pid in range(3):
        for shot in range(2):
            image(tmp_path / "people" / str(pid) / f"{shot}.jpg", 10 * pid + shot)
    return tmp_path / "people"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def indexed(workspace: Workspace, root: Path) -> Step:
    """What a command that reads the images makes of them."""
    prepare_root("folder", workspace.root, root=root)
    step = index_step(workspace, "folder")
    graph.run(workspace, [step])
    return step


def touch(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        later(path)


def test_other_times_are_no_other_dataset(workspace: Workspace, root: Path, caplog):
    first = indexed(workspace, root)
    packed = requests.images(first, size=(32, 16), filter="bilinear")
    graph.run(workspace, [packed])
    touch(root)
    second = indexed(workspace, root)
    assert second.key == first.key and second.params != first.params
    assert requests.images(second, size=(32, 16), filter="bilinear").key == packed.key
    assert caplog.messages[1:] == ["folder holds the same: what was made of it is used"]
    caplog.clear()
    assert indexed(workspace, root).key == first.key and not caplog.messages


def test_a_moved_dataset_is_read_where_it_lies(workspace: Workspace, root: Path):
    first, scratch = indexed(workspace, root), root.parent / "scratch"
    folder = workspace.folder(first)
    shutil.copytree(root, scratch, copy_function=shutil.copyfile)
    assert indexed(workspace, scratch).key == first.key
    assert read_index(folder).root == root
    archive = root.rename(root.parent / "archive")
    assert read_index(folder).root == scratch
    assert indexed(workspace, archive).key == first.key
    assert read_index(folder).root == archive  # the newest
    shutil.rmtree(scratch)
    packed = requests.images(first, size=(32, 16), filter="bilinear")
    graph.run(workspace, [packed])
    assert workspace.complete(packed)
    archive.rename(scratch)
    assert read_index(folder).root == scratch
    shutil.rmtree(scratch)
    assert read_index(folder).root == root  # which the message of what is missing names


def test_a_copy_that_changes_takes_nothing_from_the_first(workspace: Workspace, root: Path):
    first, copy = indexed(workspace, root), root.parent / "copy"
    shutil.copytree(root, copy)
    indexed(workspace, copy)
    image(copy / "0" / "0.jpg", 99)
    assert indexed(workspace, copy).key != first.key
    graph.run(workspace, [requests.images(first, size=(32, 16), filter="bilinear")])


def test_other_bytes_are_another_dataset(workspace: Workspace, root: Path):
    first = indexed(workspace, root)
    image(root / "0" / "0.jpg", 99)
    second = indexed(workspace, root)
    assert second.key != first.key and second.keyed is None
    assert not (workspace.folder(second) / COPY_OF).exists()


def test_so_are_other_files_and_another_rule(workspace: Workspace, root: Path):
    first = indexed(workspace, root)
    image(root / "3" / "0.jpg", 3)
    more = indexed(workspace, root)
    (root / "3" / "0.jpg").unlink()
    (root / "3").rmdir()
    rule = r"(?P<pid>\d+)/\d+\.jpg"
    prepare_root("folder", workspace.root, root=root, rule=rule)
    ruled = index_step(workspace, "folder")
    assert len({first.key, more.key, ruled.key}) == 3
    assert ruled.keyed is None and not workspace.complete(ruled)  # nothing to compare it with


def test_it_is_decided_once(workspace: Workspace, root: Path):
    first = indexed(workspace, root)
    touch(root)
    second = indexed(workspace, root)
    # Made again, it is younger than the one that stands on it.
    shutil.rmtree(workspace.folder(first))
    assert index_step(workspace, "folder").key == first.key
    graph.run(workspace, [second])
    assert workspace.complete(first) and index_step(workspace, "folder").key == first.key


@pytest.mark.parametrize("text", ['{"params": 3}', "{}", "{"])
def test_a_damaged_decision_is_told(workspace: Workspace, root: Path, text: str):
    first = indexed(workspace, root)
    touch(root)
    second = indexed(workspace, root)
    (decision,) = workspace.root.rglob(COPY_OF)
    decision.write_text(text)
    with pytest.raises(DamagedFile, match=COPY_OF):
        index_step(workspace, "folder")
    shutil.rmtree(decision.parent)  # as ``cache rm`` does
    assert index_step(workspace, "folder").key == second.key == first.key


def test_two_equal_indexes_of_an_older_version_stay_apart(workspace: Workspace, root: Path):
    first = indexed(workspace, root)
    touch(root)
    indexed(workspace, root)
    (decision,) = workspace.root.rglob(COPY_OF)
    decision.unlink()
    # Models stand on both.
    assert index_step(workspace, "folder").key == decision.parent.name != first.key
