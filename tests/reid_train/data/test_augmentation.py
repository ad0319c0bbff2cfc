"""Joint changes of images and label maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labels.sets import IGNORE, LIP
from reid_train.data.augmentation import Augmentation, Draws, colour, erase, erase_at_once

SIZE = (12, 8)


def maps_and_images(seed, count=3):
    """Label maps and images that show them: red is the label, green the confidence step."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(LIP), (count, *SIZE), dtype=np.uint8)
    steps = rng.integers(1, 16, (count, *SIZE))
    images = np.stack([labels + 1, steps, np.full_like(steps, 7)], axis=-1).astype(np.uint8)
    return labels, (steps / 15).astype(np.float32), images


def draws_of(augmentation, seed, count=3):
    return augmentation.draw(count, SIZE, np.random.default_rng(seed))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 6))
def test_maps_move_with_their_images(seed, pad):
    labels, confidence, images = maps_and_images(seed)
    draws = draws_of(Augmentation(flip=0.5, pad=pad), seed)
    moved = draws.move(images)
    moved_labels, moved_confidence = draws.move_maps(labels, confidence, LIP.mirrored)
    shown = moved[..., 0] > 0
    # Where a mirrored image shows a label, the map has its other side.
    other = LIP.flip_order[np.maximum(moved[..., 0].astype(int) - 1, 0)]
    expected = np.where(draws.flips[:, None, None], other, moved[..., 0].astype(int) - 1)
    assert (moved_labels[shown] == expected[shown]).all()
    assert (moved_labels[~shown] == IGNORE).all()
    assert np.array_equal(moved_confidence, (moved[..., 1] / 15).astype(np.float32))
    assert (moved[~shown] == 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_mirrored_twice_is_the_original(seed):
    labels, confidence, images = maps_and_images(seed)
    draws = draws_of(Augmentation(flip=1.0), seed)
    assert draws.flips.all()
    once = draws.move_maps(labels, confidence, LIP.mirrored)
    twice = draws.move_maps(*once, LIP.mirrored)
    assert np.array_equal(twice[0], labels) and np.array_equal(twice[1], confidence)
    assert np.array_equal(draws.move(draws.move(images)), images)
    assert not np.array_equal(draws.move(images), images)


def test_mirroring_exchanges_left_and_right():
    labels = np.zeros((1, 2, 4), np.uint8)
    labels[0, :, 0] = LIP.names.index("left-arm")
    draws = Augmentation(flip=1.0).draw(1, (2, 4), np.random.default_rng(0))
    moved, _ = draws.move_maps(labels, np.ones((1, 2, 4), np.float32), LIP.mirrored)
    assert moved[0].tolist() == [[0, 0, 0, LIP.names.index("right-arm")]] * 2


def test_a_crop_by_hand():
    image = np.arange(1, 7, dtype=np.uint8).reshape(1, 2, 3, 1).repeat(3, axis=3)
    draws = Draws(
        flips=np.array([False]),
        offsets=np.array([[1, -1]]),  # one row down, one column left of the image
        factors=np.ones((1, 3), np.float32),
        boxes=np.zeros((1, 5), np.int64),
        fill="noise",
    )
    assert draws.move(image)[0, :, :, 0].tolist() == [[0, 4, 5], [0, 0, 0]]


def test_crops_reach_every_offset_and_no_other():
    draws = Augmentation(pad=2).draw(2000, SIZE, np.random.default_rng(0))
    assert set(draws.offsets.ravel().tolist()) == {-2, -1, 0, 1, 2}


def test_doing_nothing_is_the_default():
    labels, confidence, images = maps_and_images(0)
    draws = draws_of(Augmentation(), 0)
    assert np.array_equal(draws.move(images), images)
    assert np.array_equal(draws.move_maps(labels, confidence, LIP.mirrored)[0], labels)
    assert draws.filled == len(draws.filling()) == 0
    x = torch.rand(3, 3, *SIZE)
    torch.testing.assert_close(colour(x, torch.from_numpy(draws.factors)), x)


def test_random_erasing_has_the_published_sizes_and_frequency():
    size = (256, 128)
    draws = Augmentation(erase=0.5).draw(4000, size, np.random.default_rng(0))
    boxes = draws.boxes[draws.boxes[:, 2] > 0]
    assert len(boxes) / 4000 == pytest.approx(0.5, abs=0.03)
    top, left, h, w, _ = boxes.T
    assert (top + h <= size[0]).all() and (left + w <= size[1]).all()
    area, aspect = h * w / (size[0] * size[1]), h / w
    assert area.min() > 0.018 and area.max() < 0.345
    assert aspect.min() > 0.28 and aspect.max() < 3.5
    assert np.log(aspect).mean() == pytest.approx(0.05, abs=0.15), "log-uniform, tall ones fit more"


def test_erased_pixels_are_filled_and_ignored():
    labels, confidence, images = maps_and_images(1)
    draws = draws_of(Augmentation(erase=1.0), 4)
    moved_labels, moved_confidence = draws.move_maps(labels, confidence, LIP.mirrored)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    boxes, values = torch.from_numpy(draws.boxes[:, :4]), torch.from_numpy(draws.filling())
    mean = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)
    std = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    done = erase(pixels.clone(), boxes, values, mean, std)
    erased = torch.from_numpy(moved_labels == IGNORE)
    assert erased.sum() == len(values) > 0
    assert ((done != pixels).all(1) == erased).all()
    assert (moved_confidence[erased.numpy()] == 0).all()
    assert torch.equal(done.permute(0, 2, 3, 1)[~erased], pixels.permute(0, 2, 3, 1)[~erased])
    # ((mean + std v) - mean) / std is the drawn value, pixel by pixel
    normalised = ((done - mean) / std).permute(0, 2, 3, 1)[erased]
    torch.testing.assert_close(normalised, values, atol=1e-5, rtol=1e-4)


def test_noise_is_standard_normal_and_belongs_to_the_image():
    augmentation = Augmentation(erase=1.0)
    draws = augmentation.draw(64, (64, 32), np.random.default_rng(0))
    values = draws.filling()
    assert values.mean() == pytest.approx(0, abs=0.02) and values.std() == pytest.approx(
        1, abs=0.02
    )
    # The same image in another share of the batch is filled with the same noise.
    start = int((draws.boxes[:10, 2] * draws.boxes[:10, 3]).sum())
    part = draws.of(slice(10, 20)).filling()
    assert np.array_equal(part, values[start : start + len(part)])
    grey = replace(draws, fill="mean")
    assert grey.filling().tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("fill", ["noise", "mean", (0.5, 0.25, -1.0)])
def test_a_gpu_erases_the_same_without_asking_for_the_boxes(fill):
    draws = draws_of(Augmentation(erase=0.6, erase_fill=fill), 3, count=9)
    assert 0 < (draws.boxes[:, 2] > 0).sum() < 9
    boxes, values = torch.from_numpy(draws.boxes[:, :4]), torch.from_numpy(draws.filling())
    mean = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)
    std = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    images = torch.rand(9, 3, *SIZE)
    expected = images.clone()
    for image, pixels in zip(erase(expected, boxes, values, mean, std), images, strict=True):
        assert torch.equal(image, pixels) or (image != pixels).all(0).any()
    there = mean.view(1, 3) + std.view(1, 3) * values
    assert torch.equal(erase_at_once(images, boxes, there), expected)


def test_colour_by_hand():
    image = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, 2, 2).contiguous()
    luma = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6
    bright = colour(image, torch.tensor([[1.5, 1.0, 1.0]]))
    assert bright[0, :, 0, 0].tolist() == pytest.approx([0.3, 0.6, 0.9])
    grey = colour(image, torch.tensor([[1.0, 1.0, 0.0]]))
    assert grey[0, :, 0, 0].tolist() == pytest.approx([luma] * 3)
    flat = colour(image, torch.tensor([[1.0, 0.0, 1.0]]))
    assert flat[0, :, 0, 0].tolist() == pytest.approx([luma] * 3)
    assert colour(image, torch.tensor([[9.0, 1.0, 1.0]])).max() == 1.0


def test_colour_factors_are_per_image_and_bounded():
    draws = Augmentation(brightness=0.2, saturation=0.5).draw(500, SIZE, np.random.default_rng(0))
    low, high = draws.factors.min(0), draws.factors.max(0)
    assert 0.8 <= low[0] < 0.82 and 1.18 < high[0] <= 1.2
    assert low[1] == high[1] == 1.0
    assert 0.5 <= low[2] < 0.55 and 1.45 < high[2] <= 1.5


def test_images_are_moved_from_rows_of_all_into_given_memory():
    """And those that lie wholly outside are black, not what was in that memory."""
    labels, confidence, images = maps_and_images(6, count=7)
    draws = draws_of(Augmentation(flip=0.5, pad=5, erase=0.5), 2, count=4)
    draws.offsets[3] = (SIZE[0], 0)
    places = np.array([5, 0, 5, 2])
    out = np.full((4, *SIZE, 3), 9, np.uint8)
    assert draws.move(images, places, out) is out
    assert np.array_equal(out, draws.move(images[places])) and not out[3].any() and out[0].any()
    maps = np.full((4, *SIZE), 9, np.uint8), np.full((4, *SIZE), 9, np.float32)
    draws.move_maps(labels, confidence, LIP.mirrored, places, maps)
    expected = draws.move_maps(labels[places], confidence[places], LIP.mirrored)
    assert all(np.array_equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert (maps[0][3] == IGNORE).all()


def test_one_share_of_a_batch_is_changed_like_the_whole():
    labels, confidence, images = maps_and_images(2, count=6)
    strong = Augmentation(flip=0.5, pad=3, erase=0.5)
    draws = draws_of(strong, 9, count=6)
    part = draws.of(slice(2, 4))
    assert np.array_equal(part.move(images[2:4]), draws.move(images)[2:4])
    whole = draws.move_maps(labels, confidence, LIP.mirrored)
    split = part.move_maps(labels[2:4], confidence[2:4], LIP.mirrored)
    assert all(np.array_equal(a, b[2:4]) for a, b in zip(split, whole, strict=True))
