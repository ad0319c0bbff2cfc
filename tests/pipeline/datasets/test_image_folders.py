"""Classes of one's own as folders and tables become rows with class and classname."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.check import check_rows
from pipeline.datasets.layouts import LayoutResult, read_layout
from pipeline.terminal.errors import ReidpipeError
from tests import trees


def classes(root: Path) -> LayoutResult:
    return read_layout(root, load_manifest("classes"))


def rows(result: LayoutResult) -> list[tuple[str, str, str, str]]:
    return [(r.path, r.split, r.extra["class"], r.extra["classname"]) for r in result.rows]


def test_a_folder_per_class(tmp_path: Path):
    trees.pictures(tmp_path / "mine", ["cat/1.jpg", "cat/more/2.jpg", "big_dog/1.png", "loose.jpg"])
    (tmp_path / "mine" / "cat" / "notes.txt").write_text("x")
    result = classes(tmp_path)  # the only folder in it is entered
    assert rows(result) == [
        ("big_dog/1.png", "train", "0", "big_dog"),
        ("cat/1.jpg", "train", "1", "cat"),
        ("cat/more/2.jpg", "train", "1", "cat"),
    ]
    assert result.dropped == {"in no class folder": 1}
    assert "1 .txt (cat/notes.txt)" in result.notes[-1]


@pytest.mark.parametrize("words", [("train", "val", "test"), ("Training", "valid", "testing")])
def test_split_folders_share_their_classes(tmp_path: Path, words: tuple[str, ...]):
    train, val, test = words
    names = [f"{train}/b/1.jpg", f"{train}/a/1.jpg", f"{val}/a/2.jpg", f"{test}/b/3.jpg"]
    trees.pictures(tmp_path, [*names, f"{test}/c/4.jpg", "other/d/5.jpg"])
    result = classes(tmp_path)
    assert sorted(rows(result), key=lambda row: row[0].lower()) == sorted(
        [
            (f"{test}/b/3.jpg", "query", "1", "b"),
            (f"{test}/c/4.jpg", "query", "2", "c"),
            (f"{train}/a/1.jpg", "train", "0", "a"),
            (f"{train}/b/1.jpg", "train", "1", "b"),
            (f"{val}/a/2.jpg", "val", "0", "a"),
        ],
        key=lambda row: row[0].lower(),
    )
    assert result.dropped == {"beside the splits": 1}


def test_a_class_may_be_called_train(tmp_path: Path):
    trees.pictures(tmp_path, ["train/1.jpg", "bus/1.jpg"])
    assert [row[3] for row in rows(classes(tmp_path))] == ["bus", "train"]


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path: Path):
    for split, name in (("train", "caf\u00e9"), ("test", "cafe\u0301")):
        trees.picture(tmp_path / split / name / "1.jpg")
        trees.picture(tmp_path / split / "bar" / "1.jpg")
    result = classes(tmp_path)
    assert {(row[2], row[3]) for row in rows(result)} == {("0", "bar"), ("1", "café")}
    assert len(result.rows) == 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/x/1.jpg", "b/1.jpg"], "only folders with images in .*/a"),
        (["1.jpg"], "no folder of im"),
    ],
)
def test_folders_that_are_no_classes(tmp_path: Path, names: list[str], message: str):
    trees.pictures(tmp_path, names)
    with pytest.raises(ReidpipeError, match=message) as caught:
        classes(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dataset", ["folder", "classes"])
def test_a_table_of_classes_keeps_what_it_says(tmp_path: Path, dataset: str):
    trees.pictures(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    table = tmp_path / "mine.csv"
    trees.lines(
        table,
        ["path,split,class,classname", "a.jpg,train,0,x", "b.jpg,test,1,y", "c.jpg,test,1,y"],
    )
    manifest = load_manifest(dataset)
    result = read_layout(table, manifest)
    assert [(r.path, r.split, r.pid) for r in result.rows] == [
        ("b.jpg", "query", None), ("c.jpg", "query", None), ("a.jpg", "train", None),
    ]  # fmt: skip
    assert rows(result)[2][2:] == ("0", "x") and not result.dropped


def test_nobody_is_searched_for_among_classes(tmp_path: Path):
    from dataclasses import asdict

    from pipeline.datasets.index import ImageRow

    trees.pictures(tmp_path, ["train/a/1.jpg", "test/a/2.jpg"])
    found = [
        ImageRow(**asdict(row), key=row.path, width=1, height=1, digest=row.path)
        for row in classes(tmp_path).rows
    ]
    assert check_rows(found, load_manifest("folder")).lines == []
