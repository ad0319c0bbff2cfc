"""A dataset that was copied or moved keeps what was made of it; changed bytes do not."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from parsing_models.scoring import check_sizes
from pipeline.artifacts import atomic, graph, requests
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import REMOVED, Workspace
from pipeline.datasets.index import PLACES, read_index
from pipeline.datasets.roots import prepare_root
from pipeline.datasets.sources import index_step
from pipeline.datasets.standing import COPY_OF
from pipeline.terminal.errors import DamagedFile
from tests import trees_labelled
from tests.cli.conftest import Console
from tests.pipeline.datasets.test_fingerprints import image, later

RULE = r"(?P<pid>\d+)/\d+\.jpg"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for pid in range(3):
        for shot in range(2):
            image(tmp_path / "people" / str(pid) / f"{shot}.jpg", 10 * pid + shot)
    return tmp_path / "people"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def console(workspace: Workspace) -> Console:
    return Console(workspace.root)


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


def test_images_are_read_where_they_were_asked_for_last(workspace: Workspace, root: Path):
    first, scratch = indexed(workspace, root), root.parent / "scratch"
    folder = workspace.folder(first)
    shutil.copytree(root, scratch, copy_function=shutil.copyfile)
    assert read_index(folder).root == root
    assert indexed(workspace, scratch).key == first.key
    assert read_index(folder).root == scratch
    assert indexed(workspace, root).key == first.key
    assert read_index(folder).root == root
    archive = root.rename(root.parent / "archive")
    assert read_index(folder).root == scratch  # until the new place is told
    assert indexed(workspace, archive).key == first.key
    assert read_index(folder).root == archive
    shutil.rmtree(scratch)
    archive.rename(scratch)
    assert read_index(folder).root == scratch
    shutil.rmtree(scratch)
    assert read_index(folder).root == archive  # which the message of what is missing names


def spoil(root: Path) -> None:
    image(root / "0" / "0.jpg", 99)


def empty(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        path.unlink()


@pytest.mark.parametrize("change", [spoil, empty])
def test_what_becomes_of_the_first_place_does_not_matter(
    workspace: Workspace, root: Path, change: Callable[[Path], None]
):
    first, copy = indexed(workspace, root), root.parent / "copy"
    shutil.copytree(root, copy)
    change(root)
    second = indexed(workspace, copy)
    assert second.key == first.key
    graph.run(workspace, [requests.images(second, size=(32, 16), filter="bilinear")])


def test_a_copy_that_changes_takes_nothing_from_the_first(workspace: Workspace, root: Path):
    first, copy = indexed(workspace, root), root.parent / "copy"
    shutil.copytree(root, copy)
    indexed(workspace, copy)
    spoil(copy)
    assert indexed(workspace, copy).key != first.key
    graph.run(workspace, [requests.images(first, size=(32, 16), filter="bilinear")])
    # Nor does what is read of the copy by another rule.
    folder = workspace.folder(first)
    indexed(workspace, root)
    shutil.rmtree(copy)
    shutil.copytree(root, copy)
    indexed(workspace, copy)
    prepare_root("folder", workspace.root, root=copy, rule=RULE)
    graph.run(workspace, [index_step(workspace, "folder")])
    assert read_index(folder).root == copy


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
    prepare_root("folder", workspace.root, root=root, rule=RULE)
    ruled = index_step(workspace, "folder")
    assert len({first.key, more.key, ruled.key}) == 3
    assert ruled.keyed is None and not workspace.complete(ruled)  # nothing to compare it with


def test_drawn_label_maps_are_no_hindrance(workspace: Workspace, tmp_path: Path):
    root = trees_labelled.ccp(tmp_path)
    copy = shutil.copytree(root, tmp_path / "copy" / root.name, copy_function=shutil.copyfile)
    keys = []
    for place in (root, copy):
        prepare_root("ccp", workspace.root, root=place)
        step = index_step(workspace, "ccp", as_it_is=True)
        graph.run(workspace, [step])
        keys.append(step.key)
    assert keys[0] == keys[1]
    moved = Workspace(workspace.root.rename(tmp_path / "moved"))
    index = read_index(moved.folder(step))
    check_sizes(index, index.rows)


def test_nothing_stands_on_an_index_that_is_being_deleted(workspace: Workspace, root: Path):
    first = indexed(workspace, root)
    folder = workspace.folder(first)
    folder.rename(folder.with_name(f".{folder.name}{REMOVED}"))  # where a kill left it
    touch(root)
    second = index_step(workspace, "folder")
    assert second.key != first.key and not workspace.complete(second)


def test_it_is_decided_once(workspace: Workspace, root: Path):
    first = indexed(workspace, root)
    touch(root)
    second = indexed(workspace, root)
    # Made again, it is younger than the one that stands on it.
    shutil.rmtree(workspace.folder(first))
    assert index_step(workspace, "folder").key == first.key
    graph.run(workspace, [second])
    assert workspace.complete(first) and index_step(workspace, "folder").key == first.key


def test_a_decision_is_there_when_the_index_is(workspace: Workspace, root: Path, monkeypatch):
    first = indexed(workspace, root)
    touch(root)
    full = OSError(errno.ENOSPC, "No space left on device")

    def write(path: Path, value: object) -> None:
        if path.name == COPY_OF:
            raise full
        write_json(path, value)

    write_json = atomic.write_json
    monkeypatch.setattr(atomic, "write_json", write)
    with pytest.raises(OSError, match="No space"):
        index_step(workspace, "folder")
    monkeypatch.undo()
    assert index_step(workspace, "folder").key == first.key


def test_a_command_says_how_a_copy_is_indexed(workspace: Workspace, root: Path):
    first, made = indexed(workspace, root), []

    def make(step: Step) -> None:
        made.append(step)
        graph.run(workspace, [step])

    touch(root)
    assert index_step(workspace, "folder", make=make).key == first.key
    (copy,) = made
    assert copy.key != first.key and workspace.complete(copy)
    index_step(workspace, "folder", make=make)
    assert len(made) == 1


@pytest.mark.parametrize("text", ['{"roots": []}', '{"roots": 3}', "{"])
def test_damaged_places_are_told(workspace: Workspace, root: Path, text: str):
    first, copy = indexed(workspace, root), root.parent / "copy"
    shutil.copytree(root, copy)
    indexed(workspace, copy)
    (places,) = workspace.root.rglob(PLACES)
    places.write_text(text)
    with pytest.raises(DamagedFile, match=PLACES):
        read_index(workspace.folder(first))
    places.unlink()
    indexed(workspace, copy)
    assert read_index(workspace.folder(first)).root == copy


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


def test_preparing_a_copy_tells_what_it_makes(console: Console, root: Path):
    size = ("--size", "32x16", "--workers", "1")
    (index, packed) = console.json("prepare", "folder", "--root", root, *size)["made"]
    copy = shutil.copytree(root, root.parent / "copy")
    told = console("prepare", "folder", "--root", copy, *size, "--json")
    (again,) = json.loads(told.stdout)["made"]
    assert again not in (index, packed) and f"making index {again[:8]}" in told.stderr
    assert json.loads(told.stdout)["root"] == str(copy)
