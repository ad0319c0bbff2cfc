"""A look at label maps: which images are shown, and what the picture holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from parsing_models.preview import preview, spread_over_splits
from pipeline.artifacts.steps import Job
from pipeline.datasets.index import SPLITS, ImageRow, Index, write_index
from pipeline.labels.pictures import LegendEntry, Tile, contact_sheet, fitted, shown_size
from pipeline.labels.sets import LIP
from pipeline.labels.writing import MapWriter


def row(key: str, split: str, path: str | None = None) -> ImageRow:
    return ImageRow(key, path or key, split, 1, 0, None, "", None, 4, 8, "", {})


@given(st.dictionaries(st.sampled_from(SPLITS), st.integers(1, 40), min_size=1), st.integers(1, 50))
def test_every_split_is_shown_as_evenly_as_can_be(sizes: dict[str, int], count: int):
    rows = [row(f"{split}/{n}", split) for split, size in sizes.items() for n in range(size)]
    shown = spread_over_splits(rows, count)
    assert len(shown) == min(count, len(rows)) == len({r.key for r in shown})
    taken = {split: sum(r.split == split for r in shown) for split in sizes}
    for split, size in sizes.items():
        # None is short while another one of them has two more than it.
        assert taken[split] == size or taken[split] + 1 >= max(taken.values())
    assert shown == spread_over_splits(rows, count)


def test_shown_images_lie_all_along_the_table():
    shown = spread_over_splits([row(str(n), "train") for n in range(100)], 4)
    assert [r.key for r in shown] == ["12", "37", "62", "87"]


def test_a_file_of_two_splits_is_shown_once():
    rows = [row("a", "query"), row("a@gallery", "gallery", "a"), row("b", "gallery")]
    assert [r.key for r in spread_over_splits(rows, 5)] == ["a", "b"]


def test_sheet_grows_with_its_tiles_and_names_its_colours():
    green = (10, 90, 10)  # captions are grey
    picture = np.full((40, 20, 3), green, np.uint8)
    tiles = [Tile([picture, picture], "a rather long name of a picture.png")] * 9
    entries = [LegendEntry("pants", "#c00000", 0.25), LegendEntry("hair", "#008000", 0.1)]
    sheet = contact_sheet(tiles, entries, title="maps", width=200)
    assert sheet.shape[1] == 200 and sheet.dtype == np.uint8
    # Three tiles of 42 pixels a row; each row also has room for its captions.
    assert (sheet == green).all(2).sum() == 9 * 2 * 40 * 20
    assert (sheet == (0xC0, 0, 0)).all(2).sum() == 100 == (sheet == (0, 0x80, 0)).all(2).sum()
    few = contact_sheet(tiles[:3], entries, title="maps", width=200)
    assert few.shape[0] < sheet.shape[0]
    wide = contact_sheet([Tile([np.zeros((10, 300, 3), np.uint8)], "a")], [], title="", width=200)
    assert wide.shape[1] >= 300


def test_pictures_keep_their_shape_and_labels_their_values():
    assert shown_size(np.zeros((64, 32, 3)), 192) == (192, 96)
    assert shown_size(np.zeros((10, 1000, 3)), 100) == (100, 200)
    label = np.array([[3, 17]], np.uint8)
    assert set(np.unique(fitted(label, (50, 31), exact=True))) == {3, 17}


def test_preview_writes_a_sheet_and_an_overlay_per_image(tmp_path: Path):
    rows = []
    for split in ("train", "query", "gallery"):
        name = f"{split}.png"
        Image.new("RGB", (32, 64), (100, 100, 100)).save(tmp_path / name)
        rows.append(row(name, split))
    rows.append(row("unparsed.png", "gallery"))
    write_index(tmp_path / "index", Index("drawn", tmp_path, rows))
    with MapWriter(tmp_path / "maps", LIP, size=(8, 4)) as writer:
        for each in rows[:3]:
            label = np.zeros((8, 4), np.uint8)
            label[4:] = 9
            sure = np.ones(label.shape, np.float32)
            writer.add(each.key, label, sure, source_size=(64, 32), source_digest="00")
    inputs = {"index": tmp_path / "index", "maps": tmp_path / "maps"}
    folder = tmp_path / "preview"
    found = preview(Job(folder, {"name": "drawn", "images": 5}, inputs, tmp_path))
    assert found["keys"] == ["train.png", "query.png", "gallery.png"]
    assert found["overlays"][1] == "overlays/01-query.png"
    picture = np.asarray(Image.open(folder / found["overlays"][0])).astype(int)
    assert picture.shape == (384, 192, 3)
    assert (picture[:192] == 100).all()
    tinted = np.round(35 + 0.65 * np.array(LIP.palette[9]))
    assert (picture[192:] == tinted).all()
    sheet = np.asarray(Image.open(folder / "sheet.png"))
    assert (sheet == tinted).all(2).sum() == pytest.approx(3 * 96 * 96)
