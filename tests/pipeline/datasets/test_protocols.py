"""Protocols choose the rows and cameras that the papers describe."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts import find_root, read_layout
from pipeline.datasets.layouts.rows import LayoutRow
from pipeline.datasets.manifest import Protocol
from pipeline.datasets.protocols import apply_protocol
from pipeline.terminal.errors import ReidpipeError
from tests import trees


def chosen(tmp_path: Path, dataset: str, protocol: str | None, trial: int = 0):
    manifest = load_manifest(dataset)
    rows = read_layout(find_root(tmp_path, manifest), manifest).rows
    query, gallery = apply_protocol(rows, manifest.protocol(protocol), trial=trial)
    named = [(row.path.split("/")[-1], row.camid) for row in query]
    return named, [(row.path.split("/")[-1], row.camid) for row in gallery]


def test_cargo_all_keeps_the_thirteen_cameras(tmp_path: Path):
    trees.cargo(tmp_path)
    query, gallery = chosen(tmp_path, "cargo", None)
    assert {camid for _, camid in query} == {2, 9}
    assert [camid for _, camid in gallery] == [1, 1, 5]


def test_cargo_aerial_ground_collapses_cameras(tmp_path: Path):
    trees.cargo(tmp_path)
    query, gallery = chosen(tmp_path, "cargo", "aerial-ground")
    assert query == [("Cam10_night_2501_7.jpg", 1), ("Cam3_day_2501_1.jpg", 0)]
    assert [camid for _, camid in gallery] == [0, 0, 1]


def test_cargo_subsets(tmp_path: Path):
    trees.cargo(tmp_path)
    query, gallery = chosen(tmp_path, "cargo", "ground-ground")
    assert query == [("Cam10_night_2501_7.jpg", 9)]
    assert gallery == [("Cam6_night_2501_4.jpg", 5)]
    query, gallery = chosen(tmp_path, "cargo", "aerial-aerial")
    assert query == [("Cam3_day_2501_1.jpg", 2)]
    assert len(gallery) == 2


def test_agreid_v1_directions(tmp_path: Path):
    trees.agreid_v1(tmp_path)
    query, gallery = chosen(tmp_path, "agreid_v1", "aerial-to-ground")
    assert query == [("P0006T02140A0C0F100.jpg", 0)]
    assert gallery == [("P0006T02140A0C3F7.jpg", 1)]
    query, gallery = chosen(tmp_path, "agreid_v1", "ground-to-aerial")
    assert query == [("P0006T02140A0C3F8.jpg", 1)]
    assert gallery == [("P0006T02140A0C0F101.jpg", 0)]


@pytest.mark.parametrize(
    ("protocol", "query", "gallery"),
    [
        ("aerial-to-cctv", "C0F5", "C3F16"),
        ("aerial-to-wearable", "C0F5", "C2F17"),
        ("cctv-to-aerial", "C3F6", "C0F15"),
        ("wearable-to-aerial", "C2F7", "C0F15"),
    ],
)
def test_agreid_v2_lists(tmp_path: Path, protocol: str, query: str, gallery: str):
    trees.agreid_v2(tmp_path)
    found = chosen(tmp_path, "agreid_v2", protocol)
    assert [name for name, _ in found[0]] == [f"P0009T03010A1{query}.jpg"]
    assert [name for name, _ in found[1]] == [f"P0009T03010A1{gallery}.jpg"]


def test_agreid_v2_without_its_list_is_an_error(tmp_path: Path):
    trees.agreid_v2(tmp_path, lists=False)
    with pytest.raises(ReidpipeError, match="the list exp1_aerial_to_cctv.txt"):
        chosen(tmp_path, "agreid_v2", None)


def test_vehicleid_trials_partition_the_test_rows(tmp_path: Path):
    trees.vehicleid(tmp_path)
    galleries = []
    for trial in range(10):
        query, gallery = chosen(tmp_path, "vehicleid", None, trial)
        assert len(query) == 6 and len(gallery) == 3
        assert not set(query) & set(gallery)
        galleries.append(tuple(gallery))
    assert len(set(galleries)) > 1
    with pytest.raises(ReidpipeError, match="found trial 10"):
        chosen(tmp_path, "vehicleid", None, 10)


def test_trials_need_stored_draws():
    rows = [LayoutRow("a.jpg", "query", 1), LayoutRow("b.jpg", "gallery", 1)]
    with pytest.raises(ReidpipeError, match="without column gallery_trials"):
        apply_protocol(rows, Protocol(name="standard", trials=10))


def test_course_protocol_is_data():
    course = load_manifest("col780").protocol("course")
    assert (course.exclude, course.top_k) == ("none", 10)
    assert course.average_precision == "found-in-top-k"
    assert load_manifest("col780").default_protocol.name == "standard"


def test_rows_are_left_as_they_were():
    rows = [LayoutRow("a.jpg", "query", 1, 7), LayoutRow("b.jpg", "gallery", 1, 2)]
    query, _ = apply_protocol(rows, Protocol(name="g", camera_groups={7: 1, 2: 0}))
    assert (query[0].camid, rows[0].camid) == (1, 7)
