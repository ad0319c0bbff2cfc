"""A person's own images become the right rows, or one line says what stands in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts import LayoutResult, read_layout
from pipeline.datasets.layouts.rows import LayoutRow
from pipeline.terminal.errors import ReidpipeError
from tests import trees, trees_labelled


def own(root: Path, rule: str | None = None) -> LayoutResult:
    return read_layout(root, load_manifest("folder"), rule=rule)


def people(result: LayoutResult) -> dict[str, tuple[str, int | None]]:
    return {row.path: (row.split, row.pid) for row in result.rows}


def identities(rows: list[LayoutRow]) -> list[tuple[int | None, str]]:
    return [(row.pid, row.extra["identity"]) for row in rows]


def test_own_identity_folders_are_numbered_in_sorted_order(tmp_path: Path):
    result = own(trees_labelled.own_identities(tmp_path))
    assert [(row.path, row.split, row.pid, row.extra["identity"]) for row in result.rows] == [
        ("anna/1.jpg", "train", 0, "anna"),
        ("anna/2.png", "train", 0, "anna"),
        ("bert/1.jpg", "train", 1, "bert"),
        ("bert/2.png", "train", 1, "bert"),
    ]
    assert result.notes == ["no split folders found: all images are in train"]


def test_own_split_folders(tmp_path: Path):
    result = own(trees_labelled.own_splits(tmp_path))
    assert [(row.path, row.split, row.pid, row.camid) for row in result.rows] == [
        ("gallery/12/a.jpg", "gallery", 12, None),
        ("query/12/a.jpg", "query", 12, None),
        ("train/7/a.jpg", "train", 7, None),
    ]


def test_own_rule_reads_names_and_reports_what_does_not_fit(tmp_path: Path):
    trees.pictures(tmp_path / "m", ["5_c2_9.jpg", "6_c0_1.jpg", "odd.jpg"])
    result = own(tmp_path / "m", r"(?P<pid>\d+)_c(?P<camid>\d+)_(?P<frame>\d+)")
    assert [(row.pid, row.camid, row.frame) for row in result.rows] == [(5, 2, 9), (6, 0, 1)]
    assert result.unmatched == ["odd.jpg"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (r"(?P<pid>\d+", "missing \\)"),
        (r"(\d+)_c", "no group 'pid'"),
        (r"(?P<pid>\d+)_(?P<cam>\d)", "group 'cam' \\(did you mean 'camid'"),
    ],
)
def test_own_rule_mistakes_are_one_line(tmp_path: Path, rule: str, message: str):
    with pytest.raises(ReidpipeError, match=message) as caught:
        own(tmp_path, rule)
    assert "\n" not in str(caught.value)


def test_own_flat_images_have_no_identity(tmp_path: Path):
    trees.pictures(tmp_path, ["a.jpg", "b.jpg"])
    result = own(tmp_path)
    assert people(result) == {"a.jpg": ("train", None), "b.jpg": ("train", None)}
    assert "2 images without identities" in result.notes[0]


def table(folder: Path, *rows: str) -> Path:
    trees.pictures(folder, ["a.jpg", "b.jpg"])
    trees.lines(folder / "mine.csv", rows)
    return folder / "mine.csv"


def test_own_table(tmp_path: Path):
    path = table(
        tmp_path, "path,split,pid,camid,weather", "a.jpg,train,7,1,rain", "b.jpg,query,8,,"
    )
    result = own(path)
    assert result.root == tmp_path
    assert [(r.path, r.split, r.pid, r.camid, r.extra) for r in result.rows] == [
        ("b.jpg", "query", 8, None, {"weather": ""}),
        ("a.jpg", "train", 7, 1, {"weather": "rain"}),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("name,pid", "a.jpg,1"), "found no column path in the first line, 'name,pid'"),
        (("path,pid", "c.jpg,1"), "line 2: found no file .*c.jpg"),
        (("path,pid", "../a.jpg,1"), "expected one relative to"),
        (("path,split", "a.jpg,trian"), "did you mean 'train'"),
        (("path,camid", "a.jpg,left"), "found camid 'left'"),
        (("path,pid", "a.jpg,1", "a.jpg,2"), "a.jpg twice in split train"),
    ],
)
def test_own_table_mistakes_name_the_line(tmp_path: Path, rows: tuple[str, ...], message: str):
    with pytest.raises(ReidpipeError, match=message):
        own(table(tmp_path, *rows))


@pytest.mark.parametrize("wrapping", ["inner", "data/images", "a/b/c"])
def test_own_wrapping_folders_are_entered_and_said(tmp_path: Path, wrapping: str):
    outer = tmp_path / "outer"
    inner = outer / wrapping
    inner.parent.mkdir(parents=True)
    trees_labelled.own_splits(tmp_path).rename(inner)
    (outer / "README.txt").write_text("about")
    (outer / ".cache").mkdir()
    result = own(outer)
    assert result.root == inner
    assert people(result) == {
        "gallery/12/a.jpg": ("gallery", 12),
        "query/12/a.jpg": ("query", 12),
        "train/7/a.jpg": ("train", 7),
    }
    assert result.notes == [f"images are read in {inner}, the only folder there"]


def test_own_wrapping_folder_may_hold_identities_or_a_table(tmp_path: Path):
    trees_labelled.own_identities(tmp_path / "a")
    assert own(tmp_path / "a").root == tmp_path / "a" / "mine"
    trees.pictures(tmp_path / "b" / "mine", ["x/1.jpg"])
    trees.lines(tmp_path / "b" / "mine" / "index.csv", ["path,pid", "x/1.jpg,5"])
    result = own(tmp_path / "b")
    assert (result.layout, people(result)) == ("table", {"x/1.jpg": ("train", 5)})
    assert result.notes == [
        f"images are read in {tmp_path / 'b' / 'mine'}, the only folder there",
        "no split folders found: all images are in train",
    ]


@pytest.mark.parametrize(
    "names", [["train/7/a.jpg"], ["7/a.jpg"], ["x.jpg", "mine/7/a.jpg"], ["a/b/c/d/7/a.jpg"]]
)
def test_own_folders_that_are_no_wrapping(tmp_path: Path, names: list[str]):
    trees.pictures(tmp_path / "top", names)
    deep = tmp_path / "top" / "a" / "b" / "c" if names[0].startswith("a/") else tmp_path / "top"
    assert own(tmp_path / "top").root == deep


def test_own_workspace_among_the_images_is_neither_wrapping_nor_left_out(tmp_path: Path):
    sheet = "artifacts/index/1234/sheet.png"
    inner = trees_labelled.own_splits(tmp_path)
    trees.picture(tmp_path / "reid-workspace" / sheet)
    assert own(tmp_path).root == inner
    trees.picture(inner / "reid-workspace" / sheet)
    assert (own(inner).notes, len(own(inner).rows)) == ([], 3)


def test_own_images_beside_the_split_folders_are_told(tmp_path: Path):
    root = trees_labelled.own_splits(tmp_path)
    trees.pictures(root, ["test/9/a.jpg", "Extra/b.jpg", "loose.jpg"])
    (root / "notes").mkdir()
    result = own(root)
    assert result.notes == [
        "warning: left out, beside the split folders train, query, gallery: images in "
        "Extra, test, loose.jpg"
    ]
    assert len(result.rows) == 3


@pytest.mark.parametrize("rule", [None, r"(?P<pid>\d+)_"])
def test_own_numbers_that_are_one_keep_their_text(tmp_path: Path, rule: str | None):
    trees.pictures(tmp_path, ["7/7_a.jpg", "007/007_a.jpg", "12/12_a.jpg"])
    result = own(tmp_path, rule)
    assert identities(result.rows) == [(0, "007"), (1, "12"), (2, "7")]
    assert "warning: identities 007 and 7 are one number, so all keep their text" in result.notes


def test_own_identities_beyond_64_bits_are_texts(tmp_path: Path):
    trees.pictures(tmp_path, [f"{'9' * 18}/a.jpg", "5/a.jpg"])
    assert {row.pid for row in own(tmp_path).rows} == {10**18 - 1, 5}
    trees.picture(tmp_path / ("1" * 20) / "a.jpg")
    assert identities(own(tmp_path).rows) == [(0, "1" * 20), (1, "5"), (2, "9" * 18)]
    path = table(tmp_path / "t", "path,pid", f"a.jpg,{'1' * 20}", "b.jpg,5")
    assert identities(own(path).rows) == [(0, "1" * 20), (1, "5")]


@pytest.mark.parametrize("camera", ["²", "1" * 20])
def test_own_cameras_that_are_no_number_are_one_line(tmp_path: Path, camera: str):
    trees.picture(tmp_path / "m" / f"5_c{camera}.jpg")
    with pytest.raises(ReidpipeError, match=f"found camid '{camera}' in 5_c"):
        own(tmp_path / "m", r"(?P<pid>\d+)_c(?P<camid>[^.]+)")
    with pytest.raises(ReidpipeError, match=f"line 2: found camid '{camera}'"):
        own(table(tmp_path, "path,camid", f"a.jpg,{camera}"))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_own_table_in_another_encoding_is_one_line(tmp_path: Path, encoding: str):
    path = table(tmp_path)
    path.write_text("path,pid\na.jpg,André\n", encoding=encoding)
    with pytest.raises(ReidpipeError, match="found bytes that are no UTF-8 .*; save it as CSV"):
        own(path)


def test_own_table_that_is_no_csv_is_one_line(tmp_path: Path):
    path = table(tmp_path, "path,pid")
    path.write_bytes(b"path,pid\n" + b"x" * 200_000)
    with pytest.raises(ReidpipeError, match="found no CSV .field larger"):
        own(path)


def test_own_table_with_blanks_after_commas(tmp_path: Path):
    path = table(tmp_path, "path, split , pid, note", 'a.jpg, query , 7, "x, y"', "b.jpg, , 8, z")
    result = own(path)
    assert people(result) == {"a.jpg": ("query", 7), "b.jpg": ("train", 8)}
    assert [row.extra for row in result.rows] == [{"note": "x, y"}, {"note": "z"}]


@pytest.mark.parametrize("line", ["b.jpg,1", "b.jpg,1,2,3"])
def test_own_table_rows_of_another_length_are_refused(tmp_path: Path, line: str):
    found = line.count(",") + 1
    with pytest.raises(ReidpipeError, match=f"line 3: found {found} fields; expected 3"):
        own(table(tmp_path, "path,pid,camid", "a.jpg,1,1", line))


def test_own_table_with_a_column_twice_is_refused(tmp_path: Path):
    with pytest.raises(ReidpipeError, match="found the columns path,pid,pid; .* each once"):
        own(table(tmp_path, "path,pid, pid", "a.jpg,1,2"))


def test_own_column_identity_never_overrides_the_pid(tmp_path: Path):
    path = table(tmp_path, "path,pid,identity", "a.jpg,7,anna", "b.jpg,9,")
    assert identities(own(path).rows) == [(7, "anna"), (9, "")]
    # Without a pid it says who it is, and then all are numbered.
    path = table(tmp_path, "path,pid,identity", "a.jpg,,anna", "b.jpg,9,")
    assert identities(own(path).rows) == [(1, "anna"), (0, "9")]
