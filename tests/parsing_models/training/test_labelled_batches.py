"""Batches of a parsing dataset on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from parsing_models.parsers.interface import Preprocessing
from parsing_models.parsers.warp import to_input
from parsing_models.training.batches.labelled import NONE, LabelledBatches, Variation, warped
from pipeline.artifacts.atomic import sha256_file
from pipeline.datasets.index import ImageRow
from pipeline.labels.sets import IGNORE, LIP
from pipeline.terminal.errors import ReidpipeError

GIVEN = Preprocessing((24, 24), "bgr", (0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
STILL = (1.0, 0.0, False)


def picture(height: int = 20, width: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (height, width, 3), dtype=np.uint8)
    label = rng.integers(0, 20, (height, width), dtype=np.uint8)
    return image, label


def test_a_still_image_lies_where_the_parsers_warp_puts_it() -> None:
    image, label = picture()
    moved, back = warped(image, label, LIP, (24, 24), STILL)
    expected = to_input(torch.from_numpy(image).permute(2, 0, 1)[None], (24, 24))[0]
    assert (moved - expected).abs().max() <= 1.0  # that one rounds to whole grey levels
    inside = back != IGNORE
    # 10 of 20 columns of a square box: half of the input is padding.
    assert not inside[:, 0].any() and not inside[:, -1].any() and inside[12, 12]
    assert (moved[:, :, :5] == 0).all()


def test_labels_move_with_pixels() -> None:
    label = np.zeros((20, 10), np.uint8)
    label[4:9, 6:] = 14
    image = np.repeat((label == 14)[..., None] * np.uint8(200), 3, axis=2)
    for drawn in (STILL, (1.2, 0.0, False), (0.8, 0.5, False), (1.0, -0.4, True)):
        moved, back = warped(image, label, LIP, (48, 48), drawn)
        arm = 15 if drawn[2] else 14
        bright, named = moved[0] > 100, back == arm
        assert named.sum() > 20
        assert (bright == named).float().mean() > 0.98
        assert not (back == (14 if drawn[2] else 15)).any()


def test_turning_is_counter_clockwise_about_the_centre() -> None:
    label = np.zeros((21, 21), np.uint8)
    label[10, 15] = 5  # right of the centre
    image = np.zeros((21, 21, 3), np.uint8)
    _, back = warped(image, label, LIP, (21, 21), (1.0, np.pi / 2, False))
    assert (back == 5).nonzero().tolist() == [[5, 10]]  # now above it


def test_unknown_pixels_stay_unknown_when_mirrored() -> None:
    label = np.full((8, 8), 255, np.uint8)
    _, back = warped(np.zeros((8, 8, 3), np.uint8), label, LIP, (8, 8), (1.0, 0.0, True))
    assert (back == IGNORE).all()


def test_variation_stays_in_its_bounds_and_switches_off() -> None:
    rng = np.random.default_rng(1)
    drawn = [Variation().draw(rng) for _ in range(500)]
    assert all(0.75 <= grow <= 1.25 and abs(turn) <= np.pi / 3 for grow, turn, _ in drawn)
    assert 0.3 < np.mean([turn == 0 for _, turn, _ in drawn]) < 0.5
    assert 0.4 < np.mean([mirror for _, _, mirror in drawn]) < 0.6
    assert all(NONE.draw(rng) == STILL for _ in range(5))


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, list[ImageRow]]:
    rows = []
    for number in range(5):
        image, label = picture(20 + number, 10)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        Image.fromarray(label).save(tmp_path / f"l{number}.png")
        digest = sha256_file(tmp_path / f"{number}.png")
        rows.append(
            ImageRow(
                f"{number}.png", f"{number}.png", "train", None, None, None, "", None, 10,
                20 + number, digest, {"label_path": f"l{number}.png"},
            )
        )  # fmt: skip
    return tmp_path, rows


def test_epochs_repeat_and_processes_share_them(dataset: tuple[Path, list[ImageRow]]) -> None:
    root, rows = dataset
    source = LabelledBatches(root, rows, LIP, GIVEN, batch=2, seed=4)
    assert len(source) == 2
    first, again = list(source.epoch(0, 0, 1)), list(source.epoch(0, 0, 1))
    assert len(first) == 2 and first[0]["images"].shape == (2, 3, 24, 24)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["images"], other["images"])
        assert torch.equal(one["labels"], other["labels"])
    shares = [next(source.epoch(0, rank, 2))["images"] for rank in (0, 1)]
    assert torch.equal(torch.cat(shares), first[0]["images"])
    assert not torch.equal(next(source.epoch(1, 0, 1))["images"], first[0]["images"])


def test_pixels_are_normalised_in_the_networks_channel_order(
    dataset: tuple[Path, list[ImageRow]],
) -> None:
    root, rows = dataset
    source = LabelledBatches(root, rows, LIP, GIVEN, batch=5, seed=0, variation=NONE)
    batch = next(source.epoch(0, 0, 1))
    black = -torch.tensor(GIVEN.mean) / torch.tensor(GIVEN.std)
    assert torch.allclose(batch["images"][:, :, 0, 0], black.expand(5, 3))
    assert (batch["labels"][:, 0, 0] == IGNORE).all()
    for number in range(5):
        Image.new("RGB", (10, 20 + number), (10, 20, 200)).save(root / f"{number}.png")
    again = [replace(row, digest=sha256_file(root / row.path)) for row in rows]
    source = LabelledBatches(root, again, LIP, GIVEN, batch=5, seed=0, variation=NONE)
    middle = next(source.epoch(0, 0, 1))["images"][:, :, 12, 12]
    blue_first = (torch.tensor((200, 20, 10)) / 255 - torch.tensor(GIVEN.mean)) / 0.5
    assert torch.allclose(middle, blue_first.expand(5, 3), atol=1e-5)


def test_what_is_wrong_is_named(dataset: tuple[Path, list[ImageRow]]) -> None:
    root, rows = dataset
    with pytest.raises(ReidpipeError, match="found 5 images with a label map.*--batch 5"):
        LabelledBatches(root, rows, LIP, GIVEN, batch=6, seed=0)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(root / "l0.png")
    with pytest.raises(ReidpipeError, match=r"l0.png of \(3, 3\)"):
        list(LabelledBatches(root, rows, LIP, GIVEN, batch=5, seed=0).epoch(0, 0, 1))
