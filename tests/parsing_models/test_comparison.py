"""Two parsers on the same images: agreement counted by hand, and the sheet that shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parsing_models.comparison import DIFFERS, HEIGHT, compare, compare_maps
from pipeline.artifacts.steps import Job
from pipeline.datasets.index import ImageRow, Index, write_index
from pipeline.labels.sets import ATR, LIP, LabelSet
from pipeline.labels.writing import MapWriter
from pipeline.terminal.errors import ReidpipeError


def store(folder: Path, label_set: LabelSet, labels: dict[str, np.ndarray]) -> Path:
    height, width = next(iter(labels.values())).shape
    with MapWriter(folder, label_set, size=(height, width)) as writer:
        for key, label in labels.items():
            sure = np.ones(label.shape, np.float32)
            writer.add(key, label, sure, source_size=(8, 4), source_digest="00")
    return folder


def test_agreement_of_a_case_counted_by_hand(tmp_path: Path):
    same = np.array([[5, 9], [13, 0]], np.uint8)
    other = np.array([[5, 5], [13, 0]], np.uint8)
    ones = {"a": same, "b": same, "c": same, "d": same}
    others = {"a": same, "b": other, "c": 0 * same, "e": same}
    found = compare_maps(store(tmp_path / "one", LIP, ones), store(tmp_path / "two", LIP, others))
    assert found["images"] == 3 and found["only_one"] == 2 and found["label_set"] == "lip"
    # a: 4 of 4 equal, b: 3 of 4, c: 1 of 4.
    assert found["pixel_accuracy"] == pytest.approx(8 / 12)
    assert found["most_different"] == [{"key": "c", "equal": 0.25}, {"key": "b", "equal": 0.75}]
    # pants: one pixel of a agrees; b and c have it in the first alone.
    assert found["iou"]["pants"] == pytest.approx(1 / 3)
    assert found["iou"]["upper-clothes"] == pytest.approx(2 / 4)


def test_exchanging_the_parsers_changes_no_agreement(tmp_path: Path):
    rng = np.random.default_rng(0)
    folders = [
        store(tmp_path / name, LIP, {k: rng.integers(0, 20, (6, 4), np.uint8) for k in "abcd"})
        for name in ("one", "two")
    ]
    there, back = compare_maps(*folders), compare_maps(*folders[::-1])
    assert there == back and 0 < there["pixel_accuracy"] < 0.5


def test_parsers_of_different_sets_are_compared_in_common_parts(tmp_path: Path):
    lip = store(tmp_path / "lip", LIP, {"a": np.array([[5, 9], [13, 0]], np.uint8)})
    atr = store(tmp_path / "atr", ATR, {"a": np.array([[4, 6], [11, 14]], np.uint8)})
    across = compare_maps(lip, atr)
    assert across["label_set"] == "parts" and across["pixel_accuracy"] == 0.75
    assert across["iou"]["torso"] == 1.0 and across["iou"]["arms"] == 0.0
    assert across["images"] == 1 and across["most_different"][0]["equal"] == 0.75


def test_maps_of_other_sizes_meet_at_the_first_ones(tmp_path: Path):
    small = np.array([[5, 9]], np.uint8)
    one = store(tmp_path / "one", LIP, {"a": small.repeat(4, 0).repeat(3, 1)})
    other = store(tmp_path / "other", LIP, {"a": small})
    assert compare_maps(one, other)["pixel_accuracy"] == 1.0
    assert compare_maps(one, other)["most_different"] == []


def test_maps_of_different_datasets_are_refused(tmp_path: Path):
    label = np.zeros((2, 2), np.uint8)
    one, other = (
        store(tmp_path / "one", LIP, {"a": label}),
        store(tmp_path / "x", LIP, {"b": label}),
    )
    with pytest.raises(ReidpipeError, match="no image with maps in both"):
        compare_maps(one, other)


def test_a_sheet_of_withdrawn_images_shows_no_pixel_of_them(tmp_path: Path):
    name = "0005_c2_f0046985.jpg"
    row = ImageRow(name, name, "query", 5, 1, None, "", None, 32, 64, "", {})
    write_index(tmp_path / "index", Index("occluded_duke", tmp_path, [row]))
    inputs = {
        "first": store(tmp_path / "one", LIP, {name: np.full((2, 2), 5, np.uint8)}),
        "second": store(tmp_path / "two", LIP, {name: np.full((2, 2), 9, np.uint8)}),
        "index": tmp_path / "index",
    }
    sheets = []
    for colour in ("white", "black"):
        Image.new("RGB", (32, 64), colour).save(tmp_path / name)
        found = compare(Job(tmp_path / colour, {"names": ["one", "two"]}, inputs, tmp_path))
        assert found["most_different"] == [{"key": name, "equal": 0.0}]
        sheets.append((tmp_path / colour / "sheet.png").read_bytes())
    assert sheets[0] == sheets[1]


def test_the_sheet_shows_image_both_maps_and_what_differs(tmp_path: Path):
    Image.new("RGB", (32, 64), (200, 200, 200)).save(tmp_path / "a.png")
    row = ImageRow("a.png", "a.png", "query", 1, 0, None, "", None, 32, 64, "", {})
    write_index(tmp_path / "index", Index("drawn", tmp_path, [row]))
    upper, lower = np.zeros((2, 2, 2), np.uint8)
    upper[0], lower[1] = 5, 5
    upper[:, 1] = lower[:, 1] = 9
    inputs = {
        "first": store(tmp_path / "one", LIP, {"a.png": upper}),
        "second": store(tmp_path / "two", LIP, {"a.png": lower}),
        "index": tmp_path / "index",
    }
    folder = tmp_path / "comparison"
    found = compare(Job(folder, {"names": ["one", "two"]}, inputs, tmp_path))
    assert found["first"] == "one" and found["most_different"] == [{"key": "a.png", "equal": 0.5}]
    sheet = np.asarray(Image.open(folder / "sheet.png")).astype(int)
    red = (sheet == DIFFERS).all(2)
    # Half of one picture of the tile, and a swatch in the legend.
    half = HEIGHT * HEIGHT // 2 // 2
    assert half <= red.sum() <= half + 150
    tinted = np.round(0.4 * 200 + 0.6 * np.array(LIP.palette[9]))
    pants = (sheet == tinted).all(2)
    assert pants.sum() == 2 * half  # both parsers painted the right half
