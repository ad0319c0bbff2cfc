"""What columns that somebody wrote mean: numbers, names, what is wrong, what is held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets.index import ImageRow, Index, write_index
from pipeline.terminal.errors import ReidpipeError
from reid_train.data.class_rows import ClassRows, read_classes
from reid_train.data.own_classes import held_out, own_classes
from reid_train.data.shots import Row


def index(*rows: tuple[str, str, str], dataset: str = "folder:own") -> Index:
    """(split, class, classname) per image."""
    images = [
        ImageRow(
            key=f"{place}.jpg", path=f"{place}.jpg", split=split, pid=None, camid=None, view=None,
            sequence="", frame=None, width=1, height=1, digest=str(place),
            extra={"class": label, "classname": name},
        )
        for place, (split, label, name) in enumerate(rows)
    ]  # fmt: skip
    return Index(dataset, Path("/nowhere"), images)


def labels(rows: list[Row]) -> list[tuple[int, str]]:
    return [(row.label, row.classname) for row in rows]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("7", "cat"), ("12", "ant"), ["cat", "ant"]),  # in the order of numbers
        (("3.0", "cat"), ("3.00", "cat"), None),
        (("cat", ""), ("ant", ""), ["ant", "cat"]),
        (("", "cat"), ("", "ant"), ["ant", "cat"]),
        (("b", "ant"), ("a", "cat"), ["cat", "ant"]),  # in the order of what class says
        (("1", "chat\u0301  noir"), ("2", "big_cat"), ["chat\u0301 noir", "big_cat"]),
    ],
)
def test_numbers_and_names(first, second, expected):
    rows = [("train", *first), ("train", *second), ("query", *first), ("query", *second)]
    if expected is None:
        with pytest.raises(ReidpipeError, match="found one class, 'cat'"):
            own_classes(index(*rows))
        return
    found = own_classes(index(*rows))
    names = {row.label: row.classname for row in found.train}
    assert [names[label] for label in sorted(names)] == expected
    assert labels(found.train) == labels(found.test) and not found.notes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("0", ""), ("1", "")], "class 0 .* without a name.*column classname"),
        ([("0", "cat"), ("0", "dog")], "class 0 named cat, dog"),
        ([("0", "red thing"), ("1", "Red_Thing")], "classes 0 and 1 .* both named 'red thing'"),
        ([("0", "cat"), ("", "")], "1 of 2 images .* without a class, the first is 1.jpg"),
        ([("", ""), ("", "")], "people and no classes .* --dataset /nowhere"),
        ([("0", "cat")], "one class, 'cat'"),
    ],
)
def test_what_is_wrong_is_one_line(rows, message):
    with pytest.raises(ReidpipeError, match=message) as caught:
        own_classes(index(*(("train", *row) for row in rows)))
    assert "\n" not in str(caught.value)


def test_names_of_published_sets_may_repeat(tmp_path: Path):
    rows = [("query", "0", "missile"), ("query", "1", "missile")]
    write_index(tmp_path, index(*rows, dataset="imagenet_a"))
    assert read_classes(tmp_path).names == ["missile", "missile"]
    write_index(tmp_path, index(*rows))
    with pytest.raises(ReidpipeError, match="both named 'missile'"):
        read_classes(tmp_path)


def test_images_of_val_are_tested_on_where_there_are_no_others():
    split = [("train", "0", "a"), ("train", "1", "b"), ("val", "0", "a"), ("val", "1", "b")]
    found = own_classes(index(*split))
    assert (len(found.train), len(found.val), len(found.test)) == (2, 0, 2)
    assert found.notes == ["no test images: tested on the 2 of val"]
    found = own_classes(index(*split, ("gallery", "0", "a"), ("query", "1", "b")))
    assert (len(found.train), len(found.val), len(found.test)) == (2, 2, 2)


def test_a_fifth_of_each_class_is_held_out():
    rows = [Row(f"{label}-{n}.jpg", label, "ab"[label]) for label in (0, 1) for n in range(10)]
    kept, apart = held_out(rows)
    assert [row.label for row in apart] == [0, 0, 1, 1] and len(kept) == 16
    assert held_out(rows[::-1])[1] == apart[::-1]  # whatever the order of the rows
    assert held_out(rows[:2])[1] != [] and len(held_out(rows[:2])[0]) == 1
    assert held_out(rows[:1]) == (rows[:1], [])
    found = own_classes(index(*(("train", str(n % 2), "ab"[n % 2]) for n in range(20))))
    assert len(found.test) == 4
    assert found.notes == ["no test images: 4 of 20, 20% of each class, are held out with seed 0"]


def test_classes_of_one_side_alone_are_told():
    found = own_classes(
        index(("train", "0", "a"), ("train", "1", "b"), ("query", "1", "b"), ("query", "2", "c"))
    )
    assert found.notes == [
        "warning: 1 classes have test images and none to train on: c",
        "warning: 1 classes have training images and none to test on: a",
    ]


def test_a_wording_takes_the_place_of_the_name(tmp_path: Path):
    write_index(tmp_path, index(("train", "0", "a"), ("query", "1", "b")))
    assert read_classes(tmp_path, wording="no {} here").names == ["no a here", "no b here"]


def test_images_of_a_half_are_there_or_refused():
    """What a worker asks, too: without a test image an accuracy was no number."""
    train, test = [Row("a", 2, "c"), Row("b", 0, "a")], [Row("c", 1, "b")]
    found = ClassRows(index(), train, [], test, ["a", "b", "c"])
    assert found.rows_of("train", "base") == train[1:] and found.rows_of("test", "all") == test
    with pytest.raises(ReidpipeError, match="no image to test on of the new half of the classes"):
        found.rows_of("test", "new")
    lacking = ClassRows(index(), [], [], test, ["a", "b", "c"])
    with pytest.raises(ReidpipeError, match="found no training image among the classes of 'folder"):
        lacking.rows_of("train", "all")
