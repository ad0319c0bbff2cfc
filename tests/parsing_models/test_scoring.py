"""Scores against a case counted by hand; ground truth that lies is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from parsing_models.scoring import Confusion, read_labels, score_maps
from pipeline.datasets.index import ImageRow, Index
from pipeline.labels.sets import CIHP, LIP, PARTS, PASCAL, LabelSet
from pipeline.labels.writing import MapWriter
from pipeline.terminal.errors import ReidpipeError


def test_scores_of_a_case_counted_by_hand():
    truth = np.array([[0, 0, 1], [1, 2, 255]])
    predicted = np.array([[0, 1, 1], [1, 0, 2]])
    confusion = Confusion(PARTS)
    confusion.add(truth, predicted)
    # background: 1 hit, union 3; head: 2 hits, union 3; torso: no hit, union 1; the rest absent.
    assert confusion.iou()[:3].tolist() == [1 / 3, 2 / 3, 0.0]
    scores = confusion.scores()
    assert scores["mIoU"] == pytest.approx(1 / 3)
    assert scores["pixel_accuracy"] == pytest.approx(3 / 5)
    assert scores["pixels"] == 5
    assert scores["iou"]["arms"] is None and scores["iou"]["torso"] == 0.0


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_one_matrix_over_the_set_whatever_the_order(seed: int, images: int):
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, 5, (2, images, 6, 4))
    whole, parts = Confusion(PARTS), Confusion(PARTS)
    whole.add(maps[0], maps[1])
    for row in rng.permutation(images):
        parts.add(maps[0, row], maps[1, row])
    assert np.array_equal(whole.counts, parts.counts)
    assert whole.counts.sum() == maps[0].size
    perfect = Confusion(PARTS)
    perfect.add(maps[0], maps[0])
    assert perfect.scores()["mIoU"] == 1.0


def test_other_shapes_and_labels_are_refused():
    confusion = Confusion(PARTS)
    with pytest.raises(ValueError, match="prediction"):
        confusion.add(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match=r"0\.\.4"):
        confusion.add(np.zeros((2, 2), int), np.full((2, 2), 5))
    assert Confusion(PARTS).scores()["mIoU"] is None


def test_ground_truth_is_read_without_loss(tmp_path: Path):
    labels = np.random.default_rng(0).integers(0, 20, (40, 20), dtype=np.uint8)
    labels[0, 0] = 255
    Image.fromarray(labels).save(tmp_path / "grey.png")
    palette = Image.fromarray(labels).convert("L")
    indexed = Image.frombytes("P", palette.size, palette.tobytes())
    indexed.putpalette(LIP.colours.ravel().tolist())
    indexed.save(tmp_path / "palette.png")
    for name in ("grey.png", "palette.png"):
        assert np.array_equal(read_labels(tmp_path / name, LIP), labels)


@pytest.mark.parametrize(("format_", "options"), [("JPEG", {}), ("WEBP", {"quality": 50})])
def test_lossy_ground_truth_is_refused_whatever_its_suffix(
    tmp_path: Path, format_: str, options: dict
):
    path = tmp_path / "map.png"
    Image.fromarray(np.full((8, 8), 3, np.uint8)).save(path, format_, **options)
    with pytest.raises(ReidpipeError, match="map.png.*lossless") as caught:
        read_labels(path, LIP)
    assert "\n" not in str(caught.value)


def test_foreign_labels_and_colours_are_refused(tmp_path: Path):
    path = tmp_path / "map.png"
    Image.fromarray(np.full((8, 8), 20, np.uint8)).save(path)
    with pytest.raises(ReidpipeError, match="found label 20"):
        read_labels(path, LIP)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    with pytest.raises(ReidpipeError, match="mode RGB"):
        read_labels(path, LIP)


def store(folder: Path, label_set: LabelSet, labels: dict[str, np.ndarray]) -> Path:
    shape = next(iter(labels.values())).shape
    with MapWriter(folder, label_set, size=(shape[0], shape[1])) as writer:
        for key, label in labels.items():
            sure = np.ones(label.shape, np.float32)
            writer.add(key, label, sure, source_size=(8, 4), source_digest="00")
    return folder


def row(
    key: str, label_path: str, split: str = "train", size: tuple[int, int] = (2, 2)
) -> ImageRow:
    extra, (height, width) = {"label_path": label_path}, size
    return ImageRow(key, key.split("@")[0], split, 1, 0, None, "", None, width, height, "", extra)


def test_maps_are_scored_at_the_size_of_the_truth(tmp_path: Path):
    small = np.array([[0, 5], [5, 9]], np.uint8)
    folder = store(tmp_path / "maps", LIP, {"a": small, "b": small})
    truth = small.repeat(4, 0).repeat(2, 1)
    truth[:4, :2] = 5  # a quarter of the image is annotated otherwise
    Image.fromarray(truth).save(tmp_path / "a.png")
    index = Index("drawn", tmp_path, [row("a", "a.png", size=(8, 4)), row("b", "")])
    scores = score_maps(folder, index)
    assert scores["images"] == 1 and scores["pixel_accuracy"] == pytest.approx(0.75)
    assert scores["iou"]["upper-clothes"] == pytest.approx(2 / 3)
    assert scores["iou"]["pants"] == 1.0 and scores["iou"]["background"] == 0.0
    assert "drawn" in scores["protocol"]
    with pytest.raises(ReidpipeError, match="no ground truth in dataset 'drawn'"):
        score_maps(folder, Index("drawn", tmp_path, [row("b", "")]))


def test_the_test_side_is_scored_and_an_image_counts_once(tmp_path: Path):
    label = np.zeros((2, 2), np.uint8)
    keys = ("t", "q", "q@gallery", "g", "v", "lost")
    folder = store(tmp_path / "maps", LIP, {key: label for key in keys[:-1]})
    Image.fromarray(label).save(tmp_path / "truth.png")
    splits = ("train", "query", "gallery", "gallery", "val", "query")
    rows = [row(key, "truth.png", split) for key, split in zip(keys, splits, strict=True)]
    scores = score_maps(folder, Index("drawn", tmp_path, rows), "lip")
    assert scores["splits"] == {"query": 1, "gallery": 1} and scores["images"] == 2
    assert scores["without_map"] == 1 and "query 1, gallery 1" in scores["protocol"]
    validation = score_maps(folder, Index("drawn", tmp_path, rows[:1] + rows[4:5]), "lip")
    assert validation["splits"] == {"val": 1}
    training = score_maps(folder, Index("drawn", tmp_path, rows[:1]), "lip")
    assert training["splits"] == {"train": 1}
    with pytest.raises(ReidpipeError, match="no label map of the 1 images"):
        score_maps(folder, Index("drawn", tmp_path, rows[5:]), "lip")


def test_other_labels_are_scored_on_common_ground_and_said_so(tmp_path: Path):
    # Maps in LIP: hair, upper-clothes / left-arm, pants; truth in Pascal, one pixel void.
    folder = store(tmp_path / "maps", LIP, {"a": np.array([[2, 5], [14, 9]], np.uint8)})
    Image.fromarray(np.array([[1, 4], [3, 255]], np.uint8)).save(tmp_path / "a.png")
    index = Index("drawn", tmp_path, [row("a", "a.png", "val")])
    scores = score_maps(folder, index, "pascal")
    assert scores["label_set"] == "parts" and scores["truth_set"] == "pascal"
    # head is right, upper arm is an arm, the torso over a lower arm is wrong; void is not counted.
    assert scores["iou"] == {
        "background": None, "head": 1.0, "torso": 0.0, "arms": 0.5, "legs": None,
    }  # fmt: skip
    assert scores["mIoU"] == pytest.approx(0.5) and scores["pixels"] == 3
    assert scores["pixel_accuracy"] == pytest.approx(2 / 3)
    assert scores["share"]["arms"] == pytest.approx(2 / 3)
    assert "truth in labels of pascal, maps in lip" in scores["protocol"]


def test_pixels_that_say_nothing_in_the_common_classes_are_not_scored_and_told(tmp_path: Path):
    # Maps in LIP: face, upper-clothes / left-shoe, pants; truth in CCP: skin, sweater / boots, bag.
    folder = store(tmp_path / "maps", LIP, {"a": np.array([[13, 5], [18, 9]], np.uint8)})
    Image.fromarray(np.array([[41, 48], [7, 2]], np.uint8)).save(tmp_path / "a.png")
    scores = score_maps(folder, Index("drawn", tmp_path, [row("a", "a.png", "val")]), "ccp")
    assert scores["label_set"] == "garments" and scores["pixels"] == 3
    assert scores["not_scored"] == {"bag": 0.25}
    assert {name for name, iou in scores["iou"].items() if iou == 1.0} == {
        "skin", "upper-clothes", "shoes",
    }  # fmt: skip
    assert scores["mIoU"] == 1.0 and scores["iou"]["pants"] is None
    assert "25.0 % of the truth says nothing in these and is not scored (bag)" in scores["protocol"]


def test_neck_skin_of_cihp_is_no_jumpsuit(tmp_path: Path):
    folder = store(tmp_path / "maps", LIP, {"a": np.full((2, 2), 5, np.uint8)})
    Image.fromarray(np.full((2, 2), 10, np.uint8)).save(tmp_path / "a.png")
    index = Index("drawn", tmp_path, [row("a", "a.png", "val")])
    assert score_maps(folder, index, CIHP.name)["iou"]["torso"] == 1.0
    assert score_maps(folder, index, "lip")["iou"]["jumpsuits"] == 0.0
    assumed = score_maps(folder, index)["protocol"]
    assert "labels of lip, which the dataset does not say" in assumed


def test_truth_of_another_size_than_its_image_is_refused(tmp_path: Path):
    folder = store(tmp_path / "maps", LIP, {key: np.zeros((2, 2), np.uint8) for key in "ab"})
    for name, size in (("a", (2, 2)), ("b", (2, 3))):
        Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / f"{name}.png")
    index = Index("drawn", tmp_path, [row(key, f"{key}.png", "val") for key in "ab"])
    with pytest.raises(ReidpipeError, match=r"b.png of 2x3 pixels .* image b of 2x2; .*1 of 2"):
        score_maps(folder, index, "lip")


@pytest.mark.parametrize("content", [None, b"", b"not an image"])
def test_unreadable_truth_is_told_in_one_line(tmp_path: Path, content: bytes | None):
    path = tmp_path / "map.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReidpipeError, match="map.png unreadable") as caught:
        read_labels(path, PASCAL)
    assert "\n" not in str(caught.value)
