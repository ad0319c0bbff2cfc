"""Trees that people have: cameras, splits and people in any order, flat names, junk."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts import LayoutResult, read_layout
from pipeline.datasets.layouts.own.levels import find_levels
from pipeline.datasets.layouts.own.rules import likely
from pipeline.terminal.errors import ReidpipeError
from tests import trees

MARKET = r"(?P<pid>-?\d+)_c(?P<camid>\d+)s(?P<seq>\d+)_(?P<frame>\d+)"


def own(root: Path, rule: str | None = None) -> LayoutResult:
    return read_layout(root, load_manifest("folder:shop"), rule=rule)


def numbers(result: LayoutResult, split: str = "train") -> tuple[int, int, int]:
    """Identities, images and cameras of a split."""
    rows = [row for row in result.rows if row.split == split]
    ids = {row.pid for row in rows if row.pid is not None}
    return len(ids), len(rows), len({row.camid for row in rows if row.camid is not None})


@pytest.mark.parametrize(
    ("names", "expected", "understood"),
    [
        ("cam{c}/{p:04d}/1.jpg", (3, 6, 2), "camera folders above identity folders"),
        ("{p:04d}/Camera-{c}/1.jpg", (3, 6, 2), "identity folders above camera folders"),
        ("c{c}/{p}/1.jpg", (3, 6, 2), "camera folders above identity folders"),
        ("cam{c}/person_{p}/1.jpg", (3, 6, 2), "camera folders above identity folders"),
        ("{p}/{c}.jpg", (3, 6, 0), "identity folders"),
        ("images/{p}/{c}.jpg", (3, 6, 0), "identity folders"),
        ("train/cam{c}/{p}/1.jpg", (3, 6, 2), "camera folders above identity folders"),
        ("train/{p}/cam{c}/1.jpg", (3, 6, 2), "identity folders above camera folders"),
        ("train/images/{p}/{c}.jpg", (3, 6, 0), "identity folders"),
    ],
)
def test_levels(tmp_path: Path, names: str, expected: tuple[int, int, int], understood: str):
    trees.pictures(tmp_path, [names.format(p=p, c=c) for p in (1, 2, 3) for c in (1, 2)])
    result = own(tmp_path)
    assert numbers(result) == expected
    assert result.layout.endswith(understood)


def test_letters_are_cameras_in_order(tmp_path: Path):
    trees.pictures(tmp_path, ["cam_b/7/1.jpg", "cam_a/7/1.jpg", "cam_a/9/1.jpg"])
    result = own(tmp_path)
    assert {row.path: (row.pid, row.camid) for row in result.rows} == {
        "cam_a/7/1.jpg": (7, 0),
        "cam_a/9/1.jpg": (9, 0),
        "cam_b/7/1.jpg": (7, 1),
    }
    assert "cameras are numbered: 0 = cam_a, 1 = cam_b" in result.notes


def test_cameras_in_natural_order_are_the_same_in_all_splits(tmp_path: Path):
    trees.pictures(tmp_path, ["train/cam10/1/a.jpg", "query/cam2/5/a.jpg", "gallery/cam10/5/a.jpg"])
    assert {row.split: row.camid for row in own(tmp_path).rows} == {
        "train": 1, "query": 0, "gallery": 1,
    }  # fmt: skip


@pytest.mark.parametrize("names", ["{a}/{p}/1.jpg", "train/{a}/{p}/1.jpg"])
def test_two_levels_that_could_both_be_people_are_refused_with_rules(tmp_path: Path, names: str):
    trees.pictures(tmp_path, [names.format(a=a, p=p) for a in ("north", "south") for p in (1, 2)])
    with pytest.raises(ReidpipeError, match="2 levels of folders") as caught:
        own(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for rule in ("'(?P<pid>[^/]+)/[^/]+/'", "'[^/]+/(?P<pid>[^/]+)/'"):
        assert f"--rule {rule}" in message
    assert numbers(own(tmp_path, "[^/]+/(?P<pid>[^/]+)/")) == (2, 4, 0)
    assert numbers(own(tmp_path, "(?P<camid>[^/]+)/(?P<pid>[^/]+)/")) == (2, 4, 2)


def test_images_below_and_beside_the_people_are_told(tmp_path: Path):
    trees.pictures(tmp_path, ["1/a.jpg", "1/b.jpg", "2/a.jpg", "2/masks/a.jpg", "loose.jpg"])
    result = own(tmp_path)
    assert numbers(result) == (2, 3, 0)
    assert result.dropped == {
        "deeper than the identity folders": 1,
        "without an identity, beside the identity folders": 1,
    }
    assert sorted(result.examples.values()) == ["2/masks/a.jpg", "loose.jpg"]


def test_most_images_deeper_than_the_people_are_no_detail():
    chains = [("1",), *([("2", "x")] * 3)]
    with pytest.raises(ReidpipeError, match="different depths in D, as in 1 and 2/x"):
        find_levels(chains, where="D")


@pytest.mark.parametrize(
    ("folders", "subsets"),
    [
        (["Training", "Validation"], {"train", "val"}),
        (["probe", "gallery_set"], {"query", "gallery"}),
        (["train", "query", "test"], {"train", "query", "gallery"}),
        (["train", "valid", "test"], {"train", "val", "query", "gallery"}),
        (["bounding_box_train", "query", "bounding_box_test"], {"train", "query", "gallery"}),
        (["train", "train_all", "multi-query"], {"train"}),
        (["test"], {"query", "gallery"}),
    ],
)
def test_split_words(tmp_path: Path, folders: list[str], subsets: set[str]):
    names = [f"{f}/{p}/{i}.jpg" for f in folders for p in (1, 2) for i in (1, 2)]
    trees.pictures(tmp_path / "mine", names)
    result = own(tmp_path / "mine")
    assert {row.split for row in result.rows} == subsets
    assert {row.pid for row in result.rows} == {1, 2}
    told = " ".join(result.notes)
    for name in folders:
        if name not in (*subsets, "test"):
            assert name in told, (name, told)


def test_two_folders_for_one_split_are_refused(tmp_path: Path):
    trees.pictures(tmp_path, ["Train/1/a.jpg", "training/2/a.jpg"])
    with pytest.raises(ReidpipeError, match="Train, training .* rename it train"):
        own(tmp_path)


def test_splits_below_cameras_are_refused(tmp_path: Path):
    trees.pictures(
        tmp_path,
        [f"cam{c}/{s}/{p}/1.jpg" for c in (1, 2) for s in ("train", "test") for p in (1, 2)],
    )
    with pytest.raises(ReidpipeError, match="split folders test, train below others"):
        own(tmp_path)


def test_junk_takes_no_part_and_distractors_only_as_gallery(tmp_path: Path):
    names = [f"{p:04d}_c{c}s1_{c:06d}_00.jpg" for p in (2, 3) for c in (1, 2)]
    trees.pictures(
        tmp_path / "gallery", [*names, "-1_c1s1_000009_00.jpg", "0000_c1s1_000008_00.jpg"]
    )
    trees.pictures(tmp_path / "query", names[:1])
    trees.pictures(tmp_path / "train", ["0007_c1s1_000001_00.jpg", "0000_c1s1_000005_00.jpg"])
    result = own(tmp_path, MARKET)
    assert {row.pid for row in result.rows if row.split == "gallery"} == {0, 2, 3}
    assert {row.pid for row in result.rows if row.split == "train"} == {7}
    assert result.dropped == {"junk identity -1": 1, "distractor 0000 outside the gallery": 1}


@pytest.mark.parametrize("junk", ["-1", "junk", "Junk", "nan", "-2", "None", "unknown"])
def test_junk_folders(tmp_path: Path, junk: str):
    trees.pictures(tmp_path, ["0000/a.jpg", "0001/a.jpg", f"{junk}/a.jpg"])
    result = own(tmp_path)
    assert {row.pid for row in result.rows} == {0, 1}  # 0000 is a person where nothing says else
    assert result.dropped == {f"junk identity {junk}": 1}


def test_names_in_two_unicode_forms_are_one_person(tmp_path: Path):
    forms: tuple[tuple[str, Literal["NFC", "NFD"]], ...] = (("query", "NFD"), ("gallery", "NFC"))
    for split, form in forms:
        trees.pictures(
            tmp_path / split, [f"{unicodedata.normalize(form, 'José')}/a.jpg", "Anna /a.jpg"]
        )
    result = own(tmp_path)
    assert {(r.split, r.pid, r.extra["identity"]) for r in result.rows} == {
        ("query", 1, "José"), ("gallery", 1, "José"), ("query", 0, "Anna"), ("gallery", 0, "Anna"),
    }  # fmt: skip
    assert any("two Unicode forms" in note and "José" in note for note in result.notes)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0001_c1s1_000001_00.jpg", "0002_c2s1_000002_00.jpg"], MARKET),
        (["0001_c1_f0000001.jpg", "0002_c2_f0000002.jpg"],
         r"(?P<pid>\d+)_c(?P<camid>\d+)_f?(?P<frame>\d+)"),
        (["001_1_c1_000001.png", "002_3_c2_000001.png"], r"(?P<pid>\d+)_\d+_c(?P<camid>\d+)"),
        (["anna_1.jpg", "anna_2.jpg", "bert_1.jpg", "bert_2.jpg"], "(?P<pid>[^_]+)_"),
        (["a-1.jpg", "a-2.jpg", "b-1.jpg", "b-2.jpg"], "(?P<pid>[^-]+)-"),
        (["person1 (1).jpg", "person1 (2).jpg", "person2 (1).jpg", "person2 (2).jpg"],
         r"(?P<pid>\D*\d+)\D"),
        ([f"IMG_{n}.jpg" for n in range(2000, 2010)], None),
        ([f"crop_{n:06d}.jpg" for n in range(10)], None),
        (["a.jpg", "b.jpg"], None),
    ],
)  # fmt: skip
def test_likely_rules(names: list[str], expected: str | None):
    assert likely(names) == expected


def test_the_proposed_rule_can_be_pasted(tmp_path: Path):
    names = [f"cam_{c}/{p:03d}_45.bmp" for c in "ab" for p in (1, 2, 3)]
    trees.pictures(tmp_path / "my photos", names)
    with pytest.raises(ReidpipeError) as caught:
        own(tmp_path / "my photos")
    message = str(caught.value)
    assert f"type reidpipe prepare folder:shop --root '{tmp_path}/my photos' --rule '" in message
    rule = message.split("--rule '")[1].split("'")[0]
    assert numbers(own(tmp_path / "my photos", rule)) == (3, 6, 2)
    assert numbers(own(tmp_path / "my photos", "none")) == (0, 6, 2)


def test_a_rule_may_add_cameras_to_identity_folders(tmp_path: Path):
    trees.pictures(tmp_path / "rgb/train", ["001/A_cropped_1.jpg", "001/C_cropped_1.jpg"])
    trees.pictures(tmp_path / "rgb/test", ["A/050/cropped_1.jpg", "C/050/cropped_1.jpg"])
    result = own(tmp_path / "rgb", "(?P<camid>[ABC])_cropped")
    assert {row.path: (row.split, row.pid, row.camid) for row in result.rows if row.pid == 1} == {
        "train/001/A_cropped_1.jpg": ("train", 1, 0),
        "train/001/C_cropped_1.jpg": ("train", 1, 1),
    }
    assert sorted((r.split, r.pid) for r in result.rows if r.pid == 50) == [
        ("gallery", 50), ("query", 50),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "suffix", ["jfif", "JPE", "ppm", "pgm", "bmp", "tif", "webp", "PNG", "TIFF", "gif"]
)
def test_suffixes_of_images(tmp_path: Path, suffix: str):
    trees.pictures(tmp_path, ["1/a.jpg"])
    (tmp_path / "1" / "a.jpg").rename(tmp_path / "1" / f"a.{suffix}")
    assert numbers(own(tmp_path)) == (1, 1, 0)


def test_other_files_are_counted_by_suffix(tmp_path: Path):
    trees.pictures(tmp_path, ["1/a.jpg", "2/a.jpg"])
    for name in ("1/a.heic", "2/b.HEIC", "2/notes.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    assert "not read, no images by their suffix: 2 .heic (1/a.heic), 1 .txt (2/notes.txt)" in (
        own(tmp_path).notes
    )


def test_photographs_that_are_not_read_are_named(tmp_path: Path):
    for name in ("anna/1.heic", "anna/2.HEIC", "bert/1.heic", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    told = r"no image by its suffix, but 3 \.heic \(anna/1\.heic\), 1 \.txt \(notes\.txt\), in "
    for dataset in ("folder:shop", "classes"):
        with pytest.raises(ReidpipeError, match=f"found {told}.*convert these to JPEG or PNG"):
            read_layout(tmp_path, load_manifest(dataset))
    for path in tmp_path.rglob("*.*"):
        path.unlink()
    for dataset in ("folder:shop", "classes"):
        with pytest.raises(ReidpipeError, match="found no image in .*; type the folder"):
            read_layout(tmp_path, load_manifest(dataset))


def test_a_table_beside_flat_images_is_pointed_at(tmp_path: Path):
    trees.pictures(tmp_path, ["a.jpg", "b.jpg"])
    trees.lines(tmp_path / "df.csv", ["path,label", "a.jpg,1"])
    assert any(f"--root {tmp_path}/df.csv" in note for note in own(tmp_path).notes)


def test_a_tree_renamed_to_markets_scheme_is_pointed_to_a_rule(tmp_path: Path):
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        trees.pictures(tmp_path / folder, [f"0000{p}_c1{p}s1_000001_00.jpg" for p in (1, 2)])
    with pytest.raises(ReidpipeError, match="images of your own, type reidpipe prepare folder"):
        read_layout(tmp_path, load_manifest("market1501"))


def test_a_few_images_above_the_people_are_left_out(tmp_path: Path):
    trees.pictures(
        tmp_path, [f"cam{c}/{p}/{i}.jpg" for c in (1, 2) for p in (1, 2) for i in range(3)]
    )
    trees.pictures(tmp_path, ["cam1/floor plan.jpg"])
    result = own(tmp_path)
    assert numbers(result) == (2, 12, 2)
    assert list(result.examples.values()) == ["cam1/floor plan.jpg"]


def test_a_person_called_like_a_split_is_asked_about(tmp_path: Path):
    trees.pictures(tmp_path, ["anna/1.jpg", "val/1.jpg", "bert/1.jpg"])
    with pytest.raises(ReidpipeError, match="found the folder val .* anna, bert beside it"):
        own(tmp_path)


def test_an_image_is_no_table(tmp_path: Path):
    trees.pictures(tmp_path, ["anna/1.jpg"])
    with pytest.raises(ReidpipeError, match="found the image .* --root .*anna"):
        own(tmp_path / "anna" / "1.jpg")
