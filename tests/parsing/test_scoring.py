"""Scores against a case counted by hand; ground truth that lies is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from parsing_models.scoring import Confusion, compare_maps, read_labels, score_maps
from pipeline.errors import ReidpipeError
from pipeline.index import ImageRow, Index
from pipeline.labels import ATR, LIP, PARTS, LabelSet
from pipeline.maps import MapWriter


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


def row(key: str, label_path: str) -> ImageRow:
    extra = {"label_path": label_path}
    return ImageRow(key, key, "train", 1, 0, None, "", None, 4, 8, "", extra)


def test_maps_are_scored_at_the_size_of_the_truth(tmp_path: Path):
    small = np.array([[0, 5], [5, 9]], np.uint8)
    folder = store(tmp_path / "maps", LIP, {"a": small, "b": small})
    truth = small.repeat(4, 0).repeat(2, 1)
    truth[:4, :2] = 5  # a quarter of the image is annotated otherwise
    Image.fromarray(truth).save(tmp_path / "a.png")
    index = Index("drawn", tmp_path, [row("a", "a.png"), row("b", "")])
    scores = score_maps(folder, index)
    assert scores["images"] == 1 and scores["pixel_accuracy"] == pytest.approx(0.75)
    assert scores["iou"]["upper-clothes"] == pytest.approx(2 / 3)
    assert scores["iou"]["pants"] == 1.0 and scores["iou"]["background"] == 0.0
    assert "drawn" in scores["protocol"]
    with pytest.raises(ReidpipeError, match="no ground truth in dataset 'drawn'"):
        score_maps(folder, Index("drawn", tmp_path, [row("b", "")]))


def test_parsers_of_different_sets_are_compared_in_common_parts(tmp_path: Path):
    lip = store(tmp_path / "lip", LIP, {"a": np.array([[5, 9], [13, 0]], np.uint8)})
    same = store(tmp_path / "same", LIP, {"a": np.array([[5, 9], [13, 1]], np.uint8)})
    atr = store(tmp_path / "atr", ATR, {"a": np.array([[4, 6], [11, 14]], np.uint8)})
    within = compare_maps(lip, same)
    assert within["label_set"] == "lip" and within["pixel_accuracy"] == 0.75
    across = compare_maps(lip, atr)
    assert across["label_set"] == "parts" and across["pixel_accuracy"] == 0.75
    assert across["iou"]["torso"] == 1.0 and across["iou"]["arms"] == 0.0
    assert across["images"] == 1
