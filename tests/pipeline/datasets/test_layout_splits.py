"""Offsets, numbering and seeded draws: properties that hold for any rows."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.layouts.rows import LayoutRow
from pipeline.datasets.layouts.splits import (
    assign_splits,
    draw_galleries,
    number_identities,
    offset_test_identities,
)
from pipeline.datasets.manifest import Assignment, Trials

PIDS = st.lists(st.integers(0, 30), min_size=1, max_size=40)


def rows_of(pids: list[int], split: str) -> list[LayoutRow]:
    return [LayoutRow(f"{split}/{n:03d}.jpg", split, pid) for n, pid in enumerate(pids)]


@given(train=PIDS, test=PIDS)
def test_offset_keeps_identities_apart_and_counts_them(train: list[int], test: list[int]):
    rows = offset_test_identities(rows_of(train, "train") + rows_of(test, "gallery"))
    trained = {row.pid for row in rows if row.split == "train"}
    tested = [row.pid for row in rows if row.split == "gallery"]
    assert trained == set(train)
    assert not trained & set(tested)
    assert len(set(tested)) == len(set(test))
    assert tested == [pid + max(train) + 1 for pid in test]


@given(pids=PIDS, seed=st.integers(0, 100), order=st.randoms())
def test_draws_depend_on_nothing_but_the_rows_and_the_seed(pids, seed, order):
    rows = rows_of(pids, "query")
    drawn = draw_galleries(rows, Trials(seeds=(seed, seed + 1)))
    for trial in ("0", "1"):
        chosen = [row.pid for row in drawn if trial in row.extra["gallery_trials"].split()]
        assert len(chosen) == len(set(pids)) and set(chosen) == set(pids)
    shuffled = list(rows)
    order.shuffle(shuffled)
    again = draw_galleries(shuffled, Trials(seeds=(seed, seed + 1)))
    assert {row.path: row.extra for row in again} == {row.path: row.extra for row in drawn}


def test_one_name_that_is_no_number_numbers_all():
    rows = [
        LayoutRow("a", "train", 7),
        LayoutRow("b", "train", None, extra={"identity": "007a"}),
        LayoutRow("c", "query", 7),
    ]
    assert [(row.pid, row.extra["identity"]) for row in number_identities(rows)] == [
        (1, "7"),
        (0, "007a"),
        (1, "7"),
    ]


def test_numbers_stay_as_they_are():
    rows = rows_of([3, 1], "train")
    assert number_identities(rows) == rows


def test_assignment_by_lists():
    names = ["001/a.png", "001/b.png", "001/c.png", "002/a.png"]
    pool = [LayoutRow(f"train/{name}", "pool", int(name[:3]), 0) for name in names]
    assign = Assignment(
        train_ids=(2,), query=("001/a.png", "001/b.png"), query_in_gallery=("001/b.png",)
    )
    assert assign_splits(pool, assign, "x") == [
        replace(pool[0], split="query"),
        replace(pool[1], split="query"),
        replace(pool[1], split="gallery"),
        replace(pool[2], split="gallery"),
        replace(pool[3], split="train"),
    ]
