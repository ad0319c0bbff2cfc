"""The warp between images and a network's input, against its definition."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from parsing_models.parsers.interface import Parser, Preprocessing, _decided
from parsing_models.parsers.warp import Similarity, to_grid, to_input
from pipeline.labels.sets import LIP

SIZES = st.tuples(st.integers(1, 90), st.integers(1, 60))
INPUTS = st.sampled_from([(192, 96), (57, 57), (64, 96)])


def pixels(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 256, (1, 3, *shape), dtype=np.uint8)
    return torch.from_numpy(values)


def test_recorded_affine_matrices(golden):
    record = golden("schp_lip.npz")
    warp = Similarity.between((128, 64), (473, 473))
    expected = record["c64_affine"]
    assert np.allclose([warp.scale, warp.left, warp.top],
                       [expected[0, 0], expected[0, 2], expected[1, 2]], atol=1e-9)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(SIZES, INPUTS, st.integers(0, 99))
def test_to_input_is_the_bilinear_warp_with_black_padding(
    image: tuple[int, int], target: tuple[int, int], seed: int
):
    source = pixels(image, seed)
    warp = Similarity.between(image, target)
    y = (torch.arange(target[0], dtype=torch.float64) - warp.top) / warp.scale
    x = (torch.arange(target[1], dtype=torch.float64) - warp.left) / warp.scale
    grid = torch.stack(
        torch.meshgrid((2 * x + 1) / image[1] - 1, (2 * y + 1) / image[0] - 1, indexing="xy"), -1
    )
    reference = F.grid_sample(source.double(), grid[None], align_corners=False)
    warped = to_input(source, target)
    assert warped.shape == (1, 3, *target) and torch.equal(warped, warped.round())
    assert (warped - reference).abs().max() <= 0.501


def test_to_input_rounds_ties_to_even():
    # Halfway between two pixels: (10 + 11) / 2 = 10.5 -> 10 and (11 + 12) / 2 = 11.5 -> 12.
    source = torch.tensor([[10, 11, 12]], dtype=torch.uint8).expand(1, 3, 3, 3)
    assert to_input(source, (5, 5))[0, 0, 2].tolist() == [10, 10, 11, 12, 12]
    assert Fraction(1, 2) == Fraction(1 / Similarity.between((3, 3), (5, 5)).scale)


@settings(max_examples=30, deadline=None)
@given(SIZES, INPUTS, st.sampled_from([(4, 4), (24, 12), (1, 7)]), st.booleans())
def test_to_grid_is_resizing_then_warping_back(
    image: tuple[int, int], target: tuple[int, int], maps: tuple[int, int], corners: bool
):
    logits = torch.randn(2, 5, *maps, generator=torch.Generator().manual_seed(3))
    grid = (16, 8)
    full = F.interpolate(logits, target, mode="bilinear", align_corners=corners)
    warp = Similarity.between(image, target)
    rows = ((torch.arange(16) + 0.5) * image[0] / 16 - 0.5).clamp(0, image[0] - 1)
    columns = ((torch.arange(8) + 0.5) * image[1] / 8 - 0.5).clamp(0, image[1] - 1)
    y, x = rows * warp.scale + warp.top, columns * warp.scale + warp.left
    points = torch.stack(
        torch.meshgrid((2 * x + 1) / target[1] - 1, (2 * y + 1) / target[0] - 1, indexing="xy"), -1
    )
    reference = F.grid_sample(full, points.expand(2, -1, -1, -1), align_corners=False)
    direct = to_grid(logits, target, image, grid, align_corners=corners)
    assert torch.allclose(direct, reference, atol=2e-4)


def test_no_cell_of_a_fine_grid_falls_off_the_input():
    ones = torch.ones(1, 1, 24, 12)
    for image in ((60, 25), (7, 3), (1, 1), (30, 90)):
        assert torch.allclose(to_grid(ones, (192, 96), image, (256, 128)), torch.ones(()))


def parser(**options: Any) -> Parser:
    """A parser whose logits are linear in colour, so maps can be told by hand: class 1 is red."""

    def network(x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(x), 20, *x.shape[2:])
        logits[:, 1] = 8 * (x[:, 0] - x[:, 2])  # red minus blue
        return logits[..., ::4, ::4]

    ones = (1.0, 1.0, 1.0)
    settings_ = Preprocessing((64, 32), "rgb", (0.0, 0.0, 0.0), ones)
    device = torch.empty(0).device
    return Parser(network, LIP, settings_, device=device, name="red", **options)


def scene(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, :, 0] = 255
    image[height // 2 :, :, 2] = 255
    return image


def test_maps_follow_the_image_at_any_size():
    images = [scene(40, 20), scene(90, 31), scene(40, 20), scene(16, 48)]
    maps = parser().parse(images)
    assert isinstance(maps.label, np.ndarray) and maps.label.shape == (4, 256, 128)
    assert maps.label.dtype == np.uint8 and maps.confidence[0].dtype == np.float32
    for label, sure in zip(maps.label, maps.confidence, strict=True):
        assert (label[:100] == 1).all() and (label[160:] == 0).all()
        assert sure.min() > 0 and sure.max() <= 1
    assert (maps.confidence[0][20:100, 20:100] > 0.98).all()
    own = parser().parse(images, None)
    assert [label.shape for label in own.label] == [(40, 20), (90, 31), (40, 20), (16, 48)]
    assert np.asarray(parser().parse(np.stack([images[0]] * 3), None).label).shape == (3, 40, 20)
    assert np.asarray(parser().parse([]).label).shape == (0, 256, 128)


def test_an_image_s_map_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((40, 20), (33, 70))]
    both = parser().parse(images)
    sliced = parser(memory_mib=0)
    assert sliced.slice_images == 1
    alone = sliced.parse(images)
    assert np.array_equal(both.label, alone.label)
    assert np.allclose(both.confidence, alone.confidence, atol=1e-6)


def test_flip_averages_the_mirrored_image_with_sides_exchanged():
    sided = parser()

    def network(x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(x), 20, *x.shape[2:])
        logits[:, 14] = x[:, 0]  # red is a left arm, whatever the side
        return logits

    sided.network = network
    inputs = torch.zeros(1, 3, 4, 2)
    inputs[0, 0, :, 0] = 1.0
    (logits,) = sided.logits(inputs, flip=True)
    assert logits[0, 14, 0].tolist() == [0.5, 0] and logits[0, 15, 0].tolist() == [0.5, 0]


def test_scales_are_averaged():
    seen = []
    scaled = parser()
    network = scaled.network
    scaled.network = lambda x: (seen.append(tuple(x.shape[2:])), network(x))[1]
    maps = scaled.parse([scene(40, 20)], scales=(0.75, 1.0))
    assert seen == [(48, 24), (64, 32)]
    assert (maps.label[0][:100] == 1).all() and (maps.label[0][160:] == 0).all()


def test_channel_order_and_constants():
    bgr = parser()
    bgr.preprocessing = Preprocessing((64, 32), "bgr", (0.1, 0.2, 0.3), (0.5, 0.25, 0.2))
    image = np.zeros((64, 32, 3), np.uint8)
    image[:] = (51, 102, 204)
    inside = bgr.to_input([image])[0, :, 30, 16]
    assert torch.allclose(inside, torch.tensor([1.4, 0.8, -0.5]), atol=1e-6)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)])
def test_other_images_are_refused(image: np.ndarray):
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\), RGB"):
        parser().parse([image])
    with pytest.raises(ValueError, match="found scales .*at least one number"):
        parser().parse([scene(4, 4)], scales=())


def test_decisions_are_argmax_and_its_softmax_ties_to_the_first():
    logits = torch.randn(3, 20, 8, 4, generator=torch.Generator().manual_seed(0)) * 4
    logits[0, 7] = logits[0, 3] = 50.0
    label, confidence = _decided(logits.clone())
    assert label.dtype == torch.uint8 and torch.equal(label.long(), logits.argmax(1))
    assert (label[0] == 3).all()
    assert torch.allclose(confidence, logits.softmax(1).amax(1), atol=1e-6)
