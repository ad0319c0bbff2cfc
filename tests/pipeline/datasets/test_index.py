from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.datasets.index import COLUMNS, ImageRow, Index, read_index, write_index
from pipeline.terminal.errors import ReidpipeError

HEADER = "key,path,split,pid,camid,view,sequence,frame,width,height,digest"


def row(path: str, split: str = "train", **changes: object) -> ImageRow:
    start = ImageRow(path, path, split, 1, 0, None, "", None, 64, 128, "ab")
    return dataclasses.replace(start, **changes)  # type: ignore[arg-type]


def table(folder: Path, text: str) -> Path:
    (folder / "index.csv").write_text(text, encoding="utf-8")
    (folder / "dataset.json").write_text('{"dataset": "mine", "root": "/data/mine"}')
    return folder


def test_columns_are_the_documented_ones(tmp_path: Path) -> None:
    rows = [row("a.png", extra={"caption": 'a "red", coat'}), row("b.png", pid=None, camid=None)]
    write_index(tmp_path, Index("mine", Path("/data"), rows))
    assert (tmp_path / "index.csv").read_text().splitlines() == [
        HEADER + ",caption",
        'a.png,a.png,train,1,0,,,,64,128,ab,"a ""red"", coat"',
        "b.png,b.png,train,,,,,,64,128,ab,",
    ]
    assert ",".join(COLUMNS) == HEADER


def test_second_split_of_one_file_has_its_own_key(tmp_path: Path) -> None:
    rows = [row("a.png", "gallery"), row("a.png", "query", key="a.png@query", pid=7)]
    write_index(tmp_path, Index("mine", Path("/data"), rows))
    index = read_index(tmp_path)
    assert [r.key for r in index.split("query")] == ["a.png@query"]
    assert index.pids("query") == [7]


def test_pids_ascend_and_skip_unknown() -> None:
    rows = [row("a", pid=30), row("b", pid=2), row("c", pid=None), row("d", pid=30)]
    assert Index("mine", Path("/data"), rows).pids("train") == [2, 30]


def test_root_inside_the_folder_moves_with_it(tmp_path: Path) -> None:
    before = tmp_path / "before"
    write_index(before, Index("mine", before / "images", [row("a.png")]))
    after = before.rename(tmp_path / "after")
    assert read_index(after).root == after / "images"


def test_a_label_map_inside_the_folder_moves_with_it(tmp_path: Path) -> None:
    before = tmp_path / "before"
    drawn = row("a.png", extra={"label_path": str(before / "labels" / "a.png")})
    beside = row("b.png", extra={"label_path": "truth/b.png"})
    write_index(before, Index("mine", Path("/data"), [drawn, beside]))
    assert str(tmp_path) not in (before / "index.csv").read_text()
    after = before.rename(tmp_path / "after")
    found = [r.extra["label_path"] for r in read_index(after).rows]
    assert found == [str(after / "labels" / "a.png"), "truth/b.png"]


optional = st.none() | st.integers(0, 10**9)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            ImageRow,
            key=st.just(""), path=st.just(""), split=st.sampled_from(["train", "query", "val"]),
            pid=optional, camid=optional, view=st.none() | st.integers(-1, 9), sequence=texts,
            frame=optional, width=st.integers(1, 5000), height=st.integers(1, 5000), digest=texts,
            extra=st.fixed_dictionaries({"caption": texts, "label_path": texts}),
        )
    )
)  # fmt: skip
@example([row("a.png", extra={"caption": "two\rlines", "label_path": ""})])
def test_reading_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[ImageRow]
) -> None:
    folder = tmp_path_factory.mktemp("index")
    rows = [
        dataclasses.replace(r, key=f"{place},é.png", path=f"{place},é.png")
        for place, r in enumerate(rows)
    ]
    index = Index("mine", Path("/data/mine"), rows)
    write_index(folder, index)
    assert read_index(folder) == index


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a,a,trian,1,0,,,,1,1,d", "split 'trian'.*did you mean 'train'"),
        ("a,a,train,one,0,,,,1,1,d", "line 2: found 'one'; expected a whole number"),
        ("a,a,train,1,0,,,,1,1", "line 2: found 10 fields; expected 11"),
        ("a,a,train,1,0,,,,1,1,d\na,a,train,1,0,,,,1,1,d", "key 'a' twice"),
        ("../a,../a,train,1,0,,,,1,1,d", "inside the dataset's root"),
        ("/a,/a,train,1,0,,,,1,1,d", "inside the dataset's root"),
        ("b,a,train,1,0,,,,1,1,d", "'a@train' for a second split"),
        ("a,a,train,1,-1,,,,1,1,d", "cameras counted from 0"),
        ("a,a,train,1,0,,,,0,1,d", "size of at least 1"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, body: str, expected: str) -> None:
    table(tmp_path, f"{HEADER}\n{body}\n")
    with pytest.raises(ReidpipeError, match=expected) as caught:
        read_index(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_column_and_missing_table_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReidpipeError, match=r"no index\.csv .*reidpipe prepare"):
        read_index(tmp_path)
    table(tmp_path, HEADER.replace("camid", "cam_id") + "\n")
    with pytest.raises(ReidpipeError, match="no column 'camid' .did you mean 'cam_id'"):
        read_index(tmp_path)


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    table(tmp_path, f"\ufeff{HEADER}\na,a,train,1,0,,,,1,1,d\n")
    assert read_index(tmp_path).rows[0].key == "a"


def test_failed_write_keeps_the_old_table(tmp_path: Path) -> None:
    good = Index("mine", Path("/data"), [row("a.png")])
    write_index(tmp_path, good)
    with pytest.raises(ReidpipeError, match="twice"):
        write_index(tmp_path, Index("mine", Path("/data"), [row("a"), row("a")]))
    assert read_index(tmp_path) == good
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dataset.json", "index.csv"]


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ReidpipeError, match="did you mean 'gallery'"):
        Index("mine", Path("/data"), []).split("galery")
