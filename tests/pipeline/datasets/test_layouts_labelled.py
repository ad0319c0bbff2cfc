"""Parsing sets and classification sets become the right rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.store import Execution, Workspace
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts import LayoutResult, find_root, read_layout
from pipeline.datasets.roots import prepare_root
from pipeline.datasets.sources import index_step
from pipeline.terminal.errors import ReidpipeError
from tests import trees, trees_labelled


def read(start: Path, dataset: str, **options) -> LayoutResult:
    manifest = load_manifest(dataset)
    return read_layout(find_root(start, manifest), manifest, **options)


@pytest.mark.parametrize("nested", [0, 1, 2])
def test_lip_in_one_place_or_in_doubled_folders(tmp_path: Path, nested: int):
    root = trees_labelled.lip(tmp_path, nested=nested)
    result = read(tmp_path, "lip")
    assert [row.split for row in result.rows] == ["train", "train", "val"]
    for row in result.rows:
        assert (result.root / row.path).is_file()
        assert Path(row.extra["label_path"]).stem == Path(row.path).stem
        assert (result.root / row.extra["label_path"]).is_file()
    assert result.rows[0].pid is None
    name = result.rows[0].extra["label_path"]
    assert name.endswith("train_segmentations/100034_483681.png")
    (root / name.removeprefix("LIP/") if nested == 0 else result.root / name).unlink()
    with pytest.raises(ReidpipeError, match="found no label map of .*100034_483681"):
        read(tmp_path, "lip")


def test_cihp_uses_category_ids(tmp_path: Path):
    trees_labelled.cihp(tmp_path)
    result = read(tmp_path, "cihp")
    assert [(row.split, row.extra["label_path"]) for row in result.rows] == [
        ("train", "Training/Category_ids/0000006.png"),
        ("val", "Validation/Category_ids/0000002.png"),
    ]


def test_atr_split_is_drawn_with_a_seed_and_said_so(tmp_path: Path):
    trees_labelled.atr(tmp_path, 40)
    result = read(tmp_path, "atr")
    split = [row.split for row in result.rows]
    # 40 of 17706: floor(40 * 16000 / 17706), floor(40 * 700 / 17706), floor(40 * 1000 / 17706)
    assert (split.count("train"), split.count("val"), split.count("query")) == (36, 1, 2)
    assert result.dropped == {"left over by the drawn split": 1}
    assert "seed 0" in result.notes[0]
    assert read(tmp_path, "atr").rows == result.rows


def test_atr_lists_win_over_a_draw(tmp_path: Path):
    root = trees_labelled.atr(tmp_path, 4)
    trees.lines(root / "train_id.txt", ["2500_0", "2500_1"])
    trees.lines(root / "val_id.txt", ["2500_2"])
    result = read(tmp_path, "atr")
    assert [row.split for row in result.rows] == ["train", "train", "val"]
    assert result.notes == []


@pytest.mark.parametrize("pairs", [False, True])
def test_pascal_person_part(tmp_path: Path, pairs: bool):
    trees_labelled.pascal_person_part(tmp_path, pairs=pairs)
    result = read(tmp_path, "pascal_person_part")
    assert [(row.split, Path(row.path).stem) for row in result.rows] == [
        ("train", "2008_000008"),
        ("val", "2008_000003"),
    ]


def test_pascal_context_folds_parts_and_leaves_out_images_without_people(tmp_path: Path):
    trees_labelled.pascal_context(tmp_path)
    output = tmp_path / "out"
    result = read(tmp_path, "pascal_context_parts", output=output)
    assert [row.path for row in result.rows] == ["JPEGImages/2008_000008.jpg"]
    assert result.dropped == {"without an annotated person": 1}
    with Image.open(result.rows[0].extra["label_path"]) as image:
        labels = np.asarray(image)
    expected = np.zeros((32, 16), dtype=np.uint8)
    expected[0:8] = 1  # head of the first, hair of the second person
    expected[8:16, 0:8] = 2
    expected[16:32, 8:16] = 6
    np.testing.assert_array_equal(labels, expected)


def test_ccp_maps_become_pictures_and_tagged_photographs_are_left_out(tmp_path: Path):
    root = trees_labelled.ccp(tmp_path)
    result = read(tmp_path, "ccp", output=tmp_path / "out")
    assert [(row.path, row.split) for row in result.rows] == [
        ("photos/0001.jpg", "val"),
        ("photos/0002.jpg", "val"),
    ]
    assert result.dropped == {"without a label map": 1}
    assert result.examples == {"without a label map": "photos/1005.jpg"}
    for row, label in zip(result.rows, (41, 58), strict=True):
        with Image.open(row.extra["label_path"]) as image:
            np.testing.assert_array_equal(np.asarray(image), np.full((32, 16), label, np.uint8))
    (root / "photos" / "0002.jpg").unlink()
    with pytest.raises(ReidpipeError, match="no photograph of 1 label maps in .*: 0002; "):
        read(tmp_path, "ccp", output=tmp_path / "other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.full((32, 16), 59, np.uint8), "label outside 0..58"),
        (np.full((16, 32), 1, np.uint8), "a map of 16 x 32; expected 32 x 16 like 0001.jpg"),
        (np.zeros((2, 32, 16), np.uint8), "of shape"),
    ],
)
def test_other_maps_of_ccp_are_refused_in_one_line(
    tmp_path: Path, content: np.ndarray, message: str
):
    from scipy.io import savemat

    root = trees_labelled.ccp(tmp_path)
    savemat(root / "annotations" / "pixel-level" / "0001.mat", {"groundtruth": content})
    with pytest.raises(ReidpipeError, match=message) as caught:
        read(tmp_path, "ccp", output=tmp_path / "out")
    assert "0001.mat" in str(caught.value) and "\n" not in str(caught.value)


def test_pets_by_official_lists_draw_a_validation_set_and_say_so(tmp_path: Path):
    trees_labelled.oxford_pets(tmp_path)
    result = read(tmp_path, "oxford_pets")
    per_class = {
        (row.split, row.extra["class"], row.extra["classname"]): sum(
            other.split == row.split and other.extra["class"] == row.extra["class"]
            for other in result.rows
        )
        for row in result.rows
    }
    assert per_class == {
        ("train", "0", "egyptian mau"): 4,
        ("val", "0", "egyptian mau"): 1,
        ("train", "1", "beagle"): 4,
        ("val", "1", "beagle"): 1,
        ("query", "1", "beagle"): 1,
    }
    assert "seed 0" in result.notes[0]
    assert read(tmp_path, "oxford_pets").rows == result.rows


def test_pets_split_file_wins(tmp_path: Path):
    root = trees_labelled.oxford_pets(tmp_path, split_file=True)
    result = read(tmp_path, "oxford_pets")
    assert [(row.path, row.split, row.extra["classname"]) for row in result.rows] == [
        ("images/beagle_9.jpg", "query", "beagle"),
        ("images/Egyptian_Mau_1.jpg", "train", "egyptian mau"),
        ("images/beagle_1.jpg", "val", "beagle"),
    ]
    assert result.notes == []
    (root / "images" / "beagle_9.jpg").unlink()
    with pytest.raises(ReidpipeError, match="found no .*beagle_9.jpg"):
        read(tmp_path, "oxford_pets")


def test_flowers_official_split_counts_labels_from_one(tmp_path: Path):
    trees_labelled.flowers102(tmp_path)
    result = read(tmp_path, "flowers102")
    first = next(row for row in result.rows if row.path == "jpg/image_00001.jpg")
    assert (first.split, first.extra["class"]) == ("train", "76")
    assert first.extra["classname"] == "passion flower"
    assert [row.split for row in result.rows].count("query") == 6
    assert "setid.mat" in result.notes[0]


def test_flowers_without_any_split_are_drawn_per_class(tmp_path: Path):
    trees_labelled.flowers102(tmp_path, official=False)
    result = read(tmp_path, "flowers102")
    counted = [(row.extra["class"], row.split) for row in result.rows]
    assert [counted.count(("0", split)) for split in ("train", "val", "query")] == [3, 1, 2]
    assert [counted.count(("76", split)) for split in ("train", "val", "query")] == [2, 1, 1]
    assert "seed 0" in result.notes[0]


def test_imagenet_and_variants_share_names_and_keep_wnids(tmp_path: Path):
    trees_labelled.imagenet(tmp_path)
    result = read(tmp_path, "imagenet")
    assert {row.split for row in result.rows} == {"train", "query"}
    missiles = {row.extra["wnid"] for row in result.rows if row.extra["classname"] == "missile"}
    assert missiles == {"n03773504", "n04008634"}
    classes = ["n02423022", "n03773504"]
    trees_labelled.imagenet_variant(tmp_path, "imagenet-adversarial", ["imagenet-a"], classes)
    rows = read(tmp_path / "imagenet-adversarial", "imagenet_a").rows
    # Only the variant's own classes compete: labels are positions among its folders.
    assert [(r.extra["class"], r.extra["classname"]) for r in rows] == [
        ("0", "gazelle"),
        ("1", "missile"),
    ]


def test_imagenet_without_training_images_lacks_none(tmp_path: Path):
    root, workspace = trees_labelled.imagenet(tmp_path), Workspace(tmp_path / "workspace")
    prepare_root("imagenet", workspace.root, root=root)

    def problems() -> list[str]:
        step = index_step(workspace, "imagenet", as_it_is=True)
        workspace.make(step, Execution())
        return workspace.provenance(step)["summary"]["problems"]

    expected = {"train": (1000, 1281167), "query": (1000, 50000)}
    told = {
        split: [
            f"error: {split} has 4 ids, expected {ids}",
            f"error: {split} has 4 images, expected {images}",
        ]
        for split, (ids, images) in expected.items()
    }
    assert problems() == told["train"] + told["query"]
    shutil.rmtree(root / "images" / "train")
    assert problems() == told["query"]


def test_imagenet_v2_folders_sort_as_numbers(tmp_path: Path):
    root = trees_labelled.imagenet(tmp_path)
    names = [f"n{n:08d} name {n}" for n in range(12)]
    trees.lines(root / "classnames.txt", names)
    top = ["imagenetv2-matched-frequency-format-val"]
    trees_labelled.imagenet_variant(tmp_path, "imagenetv2", top, ["0", "2", "10"])
    rows = read(tmp_path / "imagenetv2", "imagenet_v2").rows
    assert {(r.extra["class"], r.extra["classname"]) for r in rows} == {
        ("0", "name 0"),
        ("2", "name 2"),
        ("10", "name 10"),
    }


def test_imagenet_without_names_says_what_to_put_where(tmp_path: Path):
    root = trees_labelled.imagenet(tmp_path)
    (root / "classnames.txt").unlink()
    with pytest.raises(ReidpipeError, match="found no classnames.txt"):
        read(tmp_path, "imagenet")


def test_a_rule_for_a_published_dataset_is_refused(tmp_path: Path):
    trees.duke(tmp_path)
    with pytest.raises(ReidpipeError, match="its names are known"):
        read(tmp_path, "dukemtmc_reid", rule=r"(?P<pid>\d+)")
