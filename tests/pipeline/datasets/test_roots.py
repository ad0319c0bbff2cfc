"""Where images are: what happens when a fetched or given file cannot make the dataset."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets import fetch as fetching
from pipeline.datasets import roots
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.fetch import FetchError, by_hand
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifest import Archive, Manifest
from pipeline.datasets.roots import prepare_root, registered_root
from pipeline.datasets.unpack import DamagedArchive
from pipeline.terminal.errors import ReidpipeError
from tests import trees
from tests.pipeline.datasets.test_unpack import make_zip


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No datasets of the machine's owner."""
    for name in roots.DATA_FOLDERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def offered(monkeypatch: pytest.MonkeyPatch, *archives: Archive) -> None:
    """PRID2011 comes as these archives, from an address that gives whatever lies there."""
    altered = load_manifest("prid2011").model_copy(update={"archives": archives})
    monkeypatch.setattr(roots, "load_manifest", lambda name: altered)

    def fetched(manifest: Manifest, folder: Path, **_: Any) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / archive.name for archive in archives]
        for path in paths:
            if not path.exists():
                path.write_bytes(Path("offered", path.name).read_bytes())
        return paths

    monkeypatch.setattr(roots, "fetch_archives", fetched)
    Path("offered").mkdir()


def test_a_bad_download_without_a_checksum_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = Archive(name="notes.txt", md5="0" * 32, checksum_source="computed here")
    offered(monkeypatch, Archive(name="prid.zip"), checked)
    workspace = tmp_path / "workspace"
    Path("offered/notes.txt").write_text("notes")
    Path("offered/prid.zip").write_text("<html>quota exceeded</html>")
    with pytest.raises(DamagedArchive, match="a web page.*; removed prid.zip, of which no") as told:
        prepare_root("prid2011", workspace)
    assert "\n" not in str(told.value) and "type `reidpipe prepare prid2011:split-0`" in str(
        told.value
    )
    archives = workspace / "datasets" / "prid2011-split-0" / "archives"
    assert [path.name for path in archives.iterdir()] == ["notes.txt"]

    root = trees.prid2011(tmp_path / "tree")
    content = {
        path.relative_to(root.parent).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
    make_zip(Path("offered/prid.zip"), content)
    assert prepare_root("prid2011", workspace).name == "prid_2011"


def test_what_was_unpacked_in_the_workspace_moves_with_it_and_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(monkeypatch, Archive(name="prid.zip"))
    root = trees.prid2011(tmp_path / "tree")
    content = {
        path.relative_to(root.parent).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
    make_zip(Path("offered/prid.zip"), content)
    workspace, moved = tmp_path / "workspace", tmp_path / "moved"
    place = "datasets/prid2011-split-0/files/prid_2011"
    assert prepare_root("prid2011", workspace) == workspace / place
    note = workspace / "datasets" / "prid2011.json"
    assert json.loads(note.read_text())["root"] == place
    workspace.rename(moved)
    assert registered_root(moved, "prid2011") == moved / place
    note = moved / "datasets" / "prid2011.json"
    note.write_text(json.dumps({"root": str(workspace / place)}))  # as earlier versions wrote it
    assert registered_root(moved, "prid2011") == moved / place

    shutil.rmtree(moved / "datasets" / "prid2011-split-0")
    with pytest.raises(ReidpipeError, match="found no prid2011"):
        registered_root(moved, "prid2011")
    assert prepare_root("prid2011", moved) == moved / place

    typed = root.rename(tmp_path / "here")
    assert prepare_root("prid2011", moved, root=typed) == typed
    shutil.rmtree(typed)  # a disk that is not there, perhaps
    with pytest.raises(ReidpipeError, match="registered folder .*here .* gone; .*--root DIR"):
        prepare_root("prid2011", moved)


def test_a_checked_download_that_cannot_be_unpacked_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = Archive(name="prid.zip", md5="0" * 32, checksum_source="computed here")
    offered(monkeypatch, checked)
    Path("offered/prid.zip").write_text("<html>published like this</html>")
    with pytest.raises(DamagedArchive, match="get it again$"):
        prepare_root("prid2011", tmp_path / "workspace")
    assert (tmp_path / "workspace/datasets/prid2011-split-0/archives/prid.zip").is_file()


def test_lists_inside_the_tree_need_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any, **__: Any) -> list[Path]:
        raise FetchError("no network")

    monkeypatch.setattr(roots, "fetch_archives", offline)
    root = trees.occluded_duke_lists(trees.duke(tmp_path))  # a few images: other counts
    assert prepare_root("occluded_duke", tmp_path / "workspace", root=root) == root
    (root / "gallery.list").unlink()
    with pytest.raises(ReidpipeError, match="no network"):
        prepare_root("occluded_duke", tmp_path / "workspace", root=root)


def test_a_list_that_cannot_be_fetched_is_put_beside_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_download", _offline)
    root = trees.duke(tmp_path)
    put = r"put it into the folder with bounding_box_train and type `reidpipe prepare "
    put += r"occluded_duke --root DIR`$"
    with pytest.raises(FetchError, match=f"could not fetch train.list .*by hand and {put}"):
        prepare_root("occluded_duke", tmp_path / "workspace", root=root)
    trees.lines(tmp_path / "train.list", ["0001_c1_f0044158.jpg"])
    with pytest.raises(ReidpipeError, match=f"found --archive train.list, a list; .*{put}"):
        prepare_root("occluded_duke", tmp_path / "workspace", archive=tmp_path / "train.list")


def _offline(*_: Any, **__: Any) -> None:
    raise fetching._SourceFailed("no network")


def test_each_release_has_a_root_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, workspace = tmp_path / "data", tmp_path / "workspace"
    clear, masked = data / "MSMT17_V1", data / "MSMT17_V2"
    for folder in ("bounding_box_train", "bounding_box_test", "query"):
        trees.picture(clear / folder / "0001_c1_x.jpg")
    for folder in ("mask_train_v2", "mask_test_v2"):
        (masked / folder).mkdir(parents=True)
    for name in ("train", "val", "query", "gallery"):
        (masked / f"list_{name}.txt").touch()
    monkeypatch.setenv("REIDPIPE_DATA", str(data))
    assert registered_root(workspace, "msmt17:v2") == masked
    assert registered_root(workspace, "msmt17") == clear
    prepare_root("msmt17:v1", workspace, root=clear)
    assert registered_root(workspace, "msmt17:v2") == masked
    shutil.rmtree(masked)
    with pytest.raises(ReidpipeError, match="nothing says that it is msmt17:v2; expected v2 in"):
        registered_root(workspace, "msmt17:v2")
    # Whoever types a folder knows what it is, and so does its name.
    blurred = clear.rename(tmp_path / "blurred")
    assert prepare_root("msmt17:v2", workspace, root=blurred) == blurred
    (workspace / "datasets" / "msmt17.json").unlink()
    blurred.rename(masked)
    assert registered_root(workspace, "msmt17:v2") == masked
    with pytest.raises(ReidpipeError, match="nothing says that it is msmt17:v1; expected v1 in"):
        registered_root(workspace, "msmt17:v1")


def test_variants_of_one_tree_share_its_root(tmp_path: Path) -> None:
    root, workspace = trees.prid2011(tmp_path / "tree"), tmp_path / "workspace"
    prepare_root("prid2011:split-0", workspace, root=root)
    assert registered_root(workspace, "prid2011:split-1") == root


@pytest.mark.parametrize("dataset", ["imagenet", "pascal_person_part"])
def test_archives_that_are_not_the_tree_are_not_unpacked(tmp_path: Path, dataset: str) -> None:
    archive = make_zip(tmp_path / load_manifest(dataset).archives[0].name, {"a": b"a"})
    with pytest.raises(ReidpipeError, match=r"archives alone are not its tree.*--root DIR`$"):
        prepare_root(dataset, tmp_path / "workspace", archive=archive)
    assert "--archive" not in by_hand(load_manifest(dataset))
    assert "--archive FILE" in by_hand(load_manifest("market1501"))


def test_how_files_are_got_is_in_no_key() -> None:
    manifest = load_manifest("imagenet")
    other = manifest.model_copy(update={"archives_suffice": True})
    assert not manifest.archives_suffice and manifest.model_dump_json() == other.model_dump_json()


def test_one_of_several_archives_must_bear_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(monkeypatch, Archive(name="a.zip"), Archive(name="b.zip"))
    archive = make_zip(tmp_path / "c.zip", {"a": b"a"})
    with pytest.raises(ReidpipeError, match="found c.zip; expected one of a.zip, b.zip"):
        prepare_root("prid2011", tmp_path / "workspace", archive=archive)


@pytest.mark.parametrize("dataset", ["imagenet_v2", "imagenet_a", "imagenet_r"])
@pytest.mark.parametrize("place", ["", "imagenet"])
def test_names_of_classes_are_asked_for_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, place: str
) -> None:
    def fetched(manifest: Manifest, folder: Path, **_: Any) -> list[Path]:
        folder.mkdir(parents=True)
        (tree,) = manifest.layouts[0].requires
        image = f"{tree}/{'0' if manifest.numeric_folders else 'n01440764'}/a.jpg"
        return [make_zip(folder / manifest.archives[0].name, {image: trees.encoded(image)})]

    monkeypatch.setattr(roots, "fetch_archives", fetched)
    datasets = tmp_path / "workspace" / "datasets"
    with pytest.raises(ReidpipeError, match=f"found no classnames.txt for {dataset}"):
        prepare_root(dataset, tmp_path / "workspace")
    assert not list(datasets.rglob("archives"))
    names = datasets / (place or dataset) / "classnames.txt"
    names.parent.mkdir()
    names.write_text("n01440764 tench\n")
    root = prepare_root(dataset, tmp_path / "workspace")
    (row,) = read_layout(root, load_manifest(dataset)).rows
    assert row.extra["classname"] == "tench"
