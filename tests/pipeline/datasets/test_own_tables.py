"""Tables as other tools and spreadsheets write them."""

from __future__ import annotations

import json
import unicodedata
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts import LayoutResult, read_layout
from pipeline.terminal.errors import ReidpipeError
from tests import trees


def table(folder: Path, *rows: str, name: str = "mine.csv") -> Path:
    trees.pictures(folder, ["im/a.jpg", "im/b.jpg", "im/c.jpg"])
    trees.lines(folder / name, rows)
    return folder / name


def own(path: Path) -> LayoutResult:
    return read_layout(path, load_manifest("folder"))


def rows(result: LayoutResult) -> list[tuple[str, str, int | None, int | None]]:
    return [(row.path[3:], row.split, row.pid, row.camid) for row in result.rows]


@pytest.mark.parametrize(
    "header", ["path,pid,camid", "image,label,camera", "filename,person_id,cam", "Path,PID,CamID"]
)
def test_columns_of_other_tools(tmp_path: Path, header: str):
    result = own(table(tmp_path, header, "im/a.jpg,7,1", "im/b.jpg,8,2"))
    assert rows(result) == [("a.jpg", "train", 7, 1), ("b.jpg", "train", 8, 2)]
    renamed = [name for name in header.split(",") if name not in ("path", "pid", "camid")]
    told = " ".join(result.notes)
    assert all(name in told for name in renamed)


def test_a_column_of_our_own_name_wins(tmp_path: Path):
    result = own(table(tmp_path, "label,pid,path", "cat,7,im/a.jpg"))
    assert rows(result) == [("a.jpg", "train", 7, None)]
    assert result.rows[0].extra == {"label": "cat"}


def test_the_table_of_open_metric_learning(tmp_path: Path):
    result = own(
        table(
            tmp_path,
            "label,path,split,is_query,is_gallery",
            "1,im/a.jpg,train,,",
            "2,im/b.jpg,validation,True,True",
            "2,im/c.jpg,validation,False,True",
        )
    )
    assert rows(result) == [
        ("b.jpg", "gallery", 2, None),
        ("c.jpg", "gallery", 2, None),
        ("b.jpg", "query", 2, None),
        ("a.jpg", "train", 1, None),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,im/a.jpg,train,True,", "line 2: found split 'train' and is_query"),
        ("1,im/a.jpg,validation,maybe,", "line 2: found is_query 'maybe'; expected true or false"),
    ],
)
def test_flags_that_cannot_be(tmp_path: Path, row: str, message: str):
    with pytest.raises(ReidpipeError, match=message):
        own(table(tmp_path, "label,path,split,is_query,is_gallery", row))


def test_words_for_splits(tmp_path: Path):
    result = own(table(tmp_path, "path,subset,pid", "im/a.jpg,Training,1", "im/b.jpg,valid,1"))
    assert [row[1] for row in rows(result)] == ["train", "val"]
    assert any("Training as train, valid as val" in note for note in result.notes)


def test_test_images_beside_queries_are_their_gallery(tmp_path: Path):
    result = own(table(tmp_path, "path,split,pid", "im/a.jpg,query,1", "im/b.jpg,test,1"))
    assert [row[:2] for row in rows(result)] == [("b.jpg", "gallery"), ("a.jpg", "query")]
    path = table(
        tmp_path, "path,split,pid", "im/a.jpg,query,1", "im/b.jpg,test,1", "im/c.jpg,gallery,1"
    )
    with pytest.raises(ReidpipeError, match="splits gallery, query, test"):
        own(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_marks_and_windows_paths(tmp_path: Path, separator: str, encoding: str):
    path = table(tmp_path)
    lines = [["path", "split", "pid", "camid"], ["im\\a.jpg", "train", "7", "1"]]
    path.write_text("\r\n".join(separator.join(line) for line in lines), encoding=encoding)
    assert rows(own(path)) == [("a.jpg", "train", 7, 1)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_first_column_without_a_name(tmp_path: Path, separator: str):
    lines = [["", "path", "pid"], ["0", "im/a.jpg", "7"]]  # as pandas writes its row numbers
    path = table(tmp_path, *(separator.join(line) for line in lines))
    assert rows(own(path)) == [("a.jpg", "train", 7, None)]


def test_absolute_paths_inside_the_folder(tmp_path: Path):
    assert rows(own(table(tmp_path, "path,pid", f"{tmp_path}/im/a.jpg,7")))[0][0] == "a.jpg"
    for outside in ("/etc/a.jpg", "C:\\data\\a.jpg", "..\\a.jpg", f"{tmp_path.parent}/x.jpg"):
        with pytest.raises(ReidpipeError, match="line 2: found path .* expected one relative to"):
            own(table(tmp_path, "path,pid", f"{outside},7"))


def test_numbers_as_spreadsheets_write_them(tmp_path: Path):
    path = table(tmp_path, "path,pid,camid", "im/a.jpg,3.0,1.0", "im/b.jpg,3,nan", "im/c.jpg,4,-1")
    assert rows(own(path)) == [
        ("a.jpg", "train", 3, 1), ("b.jpg", "train", 3, None), ("c.jpg", "train", 4, None),
    ]  # fmt: skip


@pytest.mark.parametrize("nobody", ["", "nan", "NaN", "-1", "-1.0", "junk", "<NA>"])
def test_nobody_takes_part_in_nothing(tmp_path: Path, nobody: str):
    path = table(
        tmp_path,
        "path,split,pid",
        "im/a.jpg,query,1",
        "im/b.jpg,gallery,1",
        f"im/c.jpg,gallery,{nobody}",
    )
    result = own(path)
    assert [row[0] for row in rows(result)] == ["b.jpg", "a.jpg"]
    assert list(result.dropped.values()) == [1]
    assert list(result.examples.values()) == ["im/c.jpg"]


def test_training_images_without_identities_beside_a_labelled_test(tmp_path: Path):
    path = table(tmp_path, "path,split,pid", "im/a.jpg,query,1", "im/b.jpg,gallery,1", "im/c.jpg,,")
    assert rows(own(path))[-1] == ("c.jpg", "train", None, None)


def test_names_of_cameras(tmp_path: Path):
    path = table(
        tmp_path, "path,pid,camera", "im/a.jpg,1,gate", "im/b.jpg,1,door", "im/c.jpg,2,gate"
    )
    result = own(path)
    assert [row[3] for row in rows(result)] == [1, 0, 1]
    assert "cameras are numbered: 0 = door, 1 = gate" in result.notes


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_are_found_in_either_unicode_form(tmp_path: Path, form: Literal["NFC", "NFD"]):
    other: Literal["NFC", "NFD"] = "NFD" if form == "NFC" else "NFC"
    on_disk = unicodedata.normalize(form, "josé.jpg")
    trees.pictures(tmp_path, [on_disk])
    trees.lines(tmp_path / "t.csv", ["path,pid", f"{unicodedata.normalize(other, 'josé.jpg')},7"])
    assert [row.path for row in own(tmp_path / "t.csv").rows] == [on_disk]


@pytest.mark.parametrize("big", [0, 40_000])
def test_json_is_told_in_one_readable_line(tmp_path: Path, big: int):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": [{"file_name": "a.jpg"}] * (1 + big)}))
    with pytest.raises(ReidpipeError, match="found JSON; expected a first line") as caught:
        own(path)
    assert len(str(caught.value)) < 500


def test_a_list_without_names_of_columns_is_told(tmp_path: Path):
    path = table(tmp_path, "im/a.jpg 7", "im/b.jpg 8", name="train_80.txt")
    with pytest.raises(ReidpipeError, match="no column path in the first line, 'im/a.jpg 7'"):
        own(path)


def test_a_workbook_is_told(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "index.xlsx", "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "<x/>")
    with pytest.raises(ReidpipeError, match="found a workbook .* save it as CSV UTF-8"):
        own(tmp_path / "index.xlsx")


def test_a_rule_beside_a_table_is_refused(tmp_path: Path):
    path = table(tmp_path, "path,pid", "im/a.jpg,7")
    with pytest.raises(ReidpipeError, match="found a naming rule and the table"):
        read_layout(path, load_manifest("folder"), rule=r"(?P<pid>\d+)")
