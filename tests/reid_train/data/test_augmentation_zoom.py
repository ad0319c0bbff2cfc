"""Simple-ReID's changes: a window of the enlarged image, rectangles of one colour."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.labels.sets import LIP
from reid_train.data.augmentation import Augmentation, Draws, erase

SIZE = (256, 128)


def draws_of(augmentation, count=400, size=SIZE, seed=0):
    return augmentation.draw(count, size, np.random.default_rng(seed))


def one(size, enlarged, window):
    """Draws that only take ``window`` of one enlarged image."""
    return Draws(
        flips=np.array([False]),
        offsets=np.zeros((1, 2), np.int64),
        factors=np.ones((1, 3), np.float32),
        boxes=np.zeros((1, 5), np.int64),
        fill="noise",
        windows=np.array([window]),
        enlarged=enlarged,
    )


def test_windows_have_the_published_sizes_and_frequency():
    draws = draws_of(Augmentation(zoom=0.5), count=6000)
    assert draws.enlarged == (288, 144) and draws.windows is not None
    zoomed = draws.windows[draws.windows[:, 0] >= 0]
    assert len(zoomed) / 6000 == pytest.approx(0.5, abs=0.03)
    assert (zoomed.min(0) == (0, 0)).all() and (zoomed.max(0) == (32, 16)).all()
    assert zoomed.mean(0) == pytest.approx((16, 8), abs=0.6)
    assert (draws.windows[draws.windows[:, 0] < 0] == -1).all()


def test_a_window_of_the_enlarged_image_by_hand():
    image = np.array([0, 100, 200, 100], np.uint8)[None, :, None].repeat(2, 0).repeat(3, 2)
    # bilinear to twice the size: 0 25 75 125 175 175 125 100 in every row
    for left, expected in ((0, [0, 25, 75, 125]), (2, [75, 125, 175, 175])):
        moved = one((2, 4), (4, 8), (1, left)).move(image[None])
        assert moved.shape == (1, 2, 4, 3)
        assert (moved[0] == np.array(expected)[None, :, None]).all()


def test_maps_follow_by_hand():
    labels = np.array([[[1, 2], [3, 4]]], np.uint8)
    confidence = (labels / 8).astype(np.float32)
    # four times the size: rows 1..2 and columns 2..3 lie in both rows and the right column
    moved, sure = one((2, 2), (4, 4), (1, 2)).move_maps(labels, confidence, LIP.mirrored)
    assert moved[0].tolist() == [[2, 2], [4, 4]]
    assert sure[0].tolist() == [[0.25, 0.25], [0.5, 0.5]]


def test_maps_show_what_their_images_show():
    # stripes much wider than a pixel: where the image is of one colour, the map has its label
    stripes = np.repeat(np.arange(8, dtype=np.uint8), 32)[:, None].repeat(128, 1)
    images = np.stack([stripes * 30] * 3, axis=-1)[None].repeat(40, 0)
    draws = draws_of(Augmentation(zoom=1.0, flip=0.5), count=40)
    moved = draws.move(images)
    labels, _ = draws.move_maps(
        stripes[None].repeat(40, 0), np.ones((40, *SIZE), np.float32), LIP.mirrored
    )
    pure = moved[..., 0] % 30 == 0
    assert pure.mean() > 0.9
    assert (moved[..., 0][pure] // 30 == labels[pure]).all()


def test_other_draws_do_not_depend_on_it():
    strong = {"flip": 0.5, "pad": 10, "erase": 0.5}
    plain, zoomed = (draws_of(Augmentation(zoom=zoom, **strong)) for zoom in (0.0, 0.5))
    assert plain.windows is None
    for name in ("flips", "offsets", "factors", "boxes"):
        assert np.array_equal(getattr(plain, name), getattr(zoomed, name))


def test_a_share_of_a_batch_is_enlarged_like_the_whole():
    images = np.random.default_rng(2).integers(0, 256, (6, 32, 16, 3), dtype=np.uint8)
    draws = draws_of(Augmentation(zoom=0.5, flip=0.5), count=6, size=(32, 16))
    part = draws.of(slice(2, 5))
    assert np.array_equal(part.move(images[2:5]), draws.move(images)[2:5])


def test_rectangles_of_one_colour_are_that_colour_after_normalisation():
    fill = (0.4914, 0.4822, 0.4465)
    draws = draws_of(Augmentation(erase=1.0, erase_fill=fill), count=3, size=(32, 16))
    boxes, values = torch.from_numpy(draws.boxes[:, :4]), torch.from_numpy(draws.filling())
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    images = erase(torch.full((3, 3, 32, 16), 9.0), boxes, values, mean, std)
    erased = (images != 9).all(1)
    assert erased.sum() == int((boxes[:, 2] * boxes[:, 3]).sum()) > 0
    seen = ((images - mean) / std).permute(0, 2, 3, 1)[erased]
    torch.testing.assert_close(seen, torch.tensor(fill).expand_as(seen))


def test_linear_aspects_are_uniform_and_taller():
    options = {"erase": 1.0, "erase_area": (0.02, 0.1)}
    taller = []
    for linear in (False, True):
        boxes = draws_of(Augmentation(erase_linear=linear, **options), count=3000).boxes
        aspect = boxes[:, 2] / boxes[:, 3]
        assert aspect.min() > 0.28 and aspect.max() < 3.6
        taller.append((aspect > 1).mean())
    # log-uniform: half of them; uniform in 0.3..3.33: (3.33 - 1) / (3.33 - 0.3) = 0.77
    assert taller == pytest.approx([0.5, 0.77], abs=0.03)
