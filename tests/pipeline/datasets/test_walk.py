"""Walking a tree: what counts as data, what does not, and what would never end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.datasets.fingerprints import fingerprint
from pipeline.datasets.layouts.rows import is_workspace, subfolders, walk_images
from pipeline.datasets.roots import prepare_root
from pipeline.datasets.sources import index_params
from pipeline.terminal.errors import ReidpipeError
from tests import trees


def names(root: Path, **options) -> list[str]:
    return [path.relative_to(root).as_posix() for path in walk_images(root, **options)]


def test_files_and_folders_come_in_sorted_order_and_no_deeper_than_asked(tmp_path: Path):
    trees.pictures(tmp_path, ["b.jpg", "a/2.png", "a/1.JPG", "a/x/3.jpg", "notes.jpg/4.jpg"])
    (tmp_path / "a" / "readme.txt").write_text("no image")
    assert names(tmp_path) == ["a/1.JPG", "a/2.png", "a/x/3.jpg", "b.jpg", "notes.jpg/4.jpg"]
    assert names(tmp_path, depth=1) == ["b.jpg"]
    assert names(tmp_path, depth=2) == ["a/1.JPG", "a/2.png", "b.jpg", "notes.jpg/4.jpg"]
    assert names(tmp_path / "b.jpg") == names(tmp_path / "gone") == []


def test_hidden_files_and_folders_are_no_data(tmp_path: Path):
    trees.pictures(tmp_path, ["a/1.jpg", "a/.1.jpg", ".thumbnails/1.jpg", ".git/x.png"])
    assert names(tmp_path) == ["a/1.jpg"]
    assert subfolders(tmp_path) == [tmp_path / "a"]


def test_a_suffix_written_anew_changes_the_key_of_that_tree_alone(tmp_path: Path):
    root, workspace = trees.market1501(tmp_path), tmp_path / "workspace"
    prepare_root("market1501", workspace, root=root)
    assert "suffixes" not in index_params(workspace, "market1501")
    (root / "readme.txt").rename(root / "README.TXT")
    assert "suffixes" not in index_params(workspace, "market1501")
    first = next(walk_images(root / "query"))
    first.rename(first.with_name(first.name + ".jpg"))
    assert index_params(workspace, "market1501")["suffixes"] == "plain"


def test_a_workspace_in_the_tree_is_no_data(tmp_path: Path):
    """`cd mydata; reidpipe prepare folder --root .` with the default ./reid-workspace."""
    root = tmp_path / "mydata"
    trees.pictures(root, ["anna/1.jpg", "bert/1.jpg"])
    workspace = root / "reid-workspace"
    prepare_root("folder", workspace, root=root)
    before = index_params(workspace, "folder")
    trees.picture(workspace / "artifacts" / "preview" / "1234" / "sheet.png")
    (workspace / "artifacts" / "index" / "5678").mkdir(parents=True)
    assert index_params(workspace, "folder") == before
    assert names(root) == ["anna/1.jpg", "bert/1.jpg"]
    # What was unpacked inside a workspace is data for whoever starts there.
    trees.picture(workspace / "datasets" / "folder" / "files" / "cleo" / "1.jpg")
    assert names(workspace / "datasets" / "folder" / "files") == ["cleo/1.jpg"]


def test_a_workspace_without_registered_data_is_known_by_its_artifacts(tmp_path: Path):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "datasets").mkdir()
    assert not is_workspace(tmp_path)
    (tmp_path / "artifacts" / "index").mkdir()
    assert is_workspace(tmp_path)


def test_a_link_to_a_parent_folder_is_not_walked_again(tmp_path: Path):
    trees.pictures(tmp_path, ["a/1.jpg", "b/1.jpg"])
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "here").symlink_to(tmp_path / "b")
    assert names(tmp_path) == ["a/1.jpg", "b/1.jpg"]


def test_two_links_to_one_folder_are_two_identities(tmp_path: Path):
    """Which of them is the mistake, nobody can tell from here; the check says so."""
    trees.picture(tmp_path / "raw" / "x" / "1.jpg")
    (tmp_path / "mine").mkdir()
    for person in ("anna", "bert"):
        (tmp_path / "mine" / person).symlink_to(tmp_path / "raw" / "x")
    assert names(tmp_path / "mine") == ["anna/1.jpg", "bert/1.jpg"]


def test_links_to_nothing_pipes_and_links_to_themselves(tmp_path: Path):
    trees.picture(tmp_path / "a" / "1.jpg")
    os.mkfifo(tmp_path / "a" / "p.jpg")
    (tmp_path / "a" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "a" / "gone.jpg").symlink_to("nothing.jpg")
    # The reader tells of the missing file; the pipe would keep it waiting for ever.
    assert names(tmp_path) == ["a/1.jpg", "a/gone.jpg"]
    assert fingerprint(tmp_path) == fingerprint(tmp_path)


def test_a_name_that_is_no_utf8_is_one_line(tmp_path: Path):
    trees.picture(tmp_path / "a" / "1.jpg")
    try:
        (tmp_path / "a" / "1.jpg").rename(tmp_path / "a" / os.fsdecode(b"caf\xe9.jpg"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(ReidpipeError, match=r"found the name .*a/caf\\udce9.jpg, .*; rename it"):
        names(tmp_path)
    assert fingerprint(tmp_path)


def test_a_class_whose_name_is_no_utf8_is_one_line(tmp_path: Path):
    trees.picture(tmp_path / "a" / "1.jpg")
    folder = tmp_path / os.fsdecode(b"\xff")
    try:
        (tmp_path / "a").rename(folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(ReidpipeError, match=r"found the name .*udcff/1.jpg, .*; rename it"):
        names(folder)
