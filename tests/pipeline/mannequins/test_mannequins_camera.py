"""Canvas, projection, occluders and cameras of the generated people."""

from __future__ import annotations

from dataclasses import replace
from math import pi

import numpy as np
import pytest
from PIL import Image

from pipeline.mannequins import camera_of, draw
from pipeline.mannequins.camera import Camera, camera, expose
from pipeline.mannequins.canvas import Canvas
from pipeline.mannequins.projection import Projection
from pipeline.mannequins.scene import OCCLUDERS, occlude, scene
from pipeline.mannequins.shape import Shape

STRAIGHT = Projection(0.0, 0.0, 100.0, 100.0, 50.0, 100.0, (0.0, 0.0, 1.0))
NEUTRAL = Camera(
    gains=(1.0, 1.0, 1.0),
    gamma=1.0,
    contrast=1.0,
    saturation=1.0,
    blur=0.0,
    sharpen=0.0,
    noise=0.0,
    rows=64,
    jpeg=None,
    pitch=0.0,
    fill=0.9,
    stretch=1.0,
    scene=0,
    light=(0.0, 0.0, 1.0),
)


def column(x: float, z: float, label: int = 5, rgb: tuple[int, int, int] = (200, 10, 10)) -> Shape:
    """An upright tube of half-axes 0.1 (sideways) and 0.05 (forward), from y 0.2 to 0.8."""
    return Shape([(x, 0.2, z, 0.1, 0.05), (x, 0.8, z, 0.1, 0.05)], label, rgb, 0.0, cap=0.0)


@pytest.mark.parametrize(
    ("turn", "left", "right"),
    [
        (0.0, 60, 80),  # x 0.2 is the image's right of 50, half-width 0.1
        (pi, 20, 40),  # from behind the person's left is the image's left
        (pi / 2, 45, 55),  # facing right: x becomes depth, half-width is 0.05
    ],
)
def test_a_tube_lands_where_the_projection_says(turn: float, left: int, right: int) -> None:
    canvas = Canvas((100, 100))
    canvas.shapes([column(0.2, 0.0)], replace(STRAIGHT, turn=turn))
    rows, columns = np.nonzero(canvas.label() == 5)
    assert (columns.min(), columns.max() + 1) == pytest.approx((left, right), abs=1)
    assert (rows.min(), rows.max() + 1) == pytest.approx((20, 80), abs=1)


def test_a_camera_looking_down_sees_near_things_lower() -> None:
    found = []
    for z in (-0.3, 0.3):
        canvas = Canvas((100, 100))
        canvas.shapes([column(0.0, z)], replace(STRAIGHT, pitch=0.2))
        found.append(np.nonzero(canvas.label() == 5)[0].mean())
    assert found[1] - found[0] == pytest.approx(60 * np.sin(0.2), abs=1)


@pytest.mark.parametrize(("turn", "front"), [(0.0, 9), (pi, 5)])
def test_the_nearer_shape_hides_the_farther(turn: float, front: int) -> None:
    canvas = Canvas((100, 100))
    shapes = [column(0.0, 0.3, label=9), column(0.0, -0.3, label=5)]
    canvas.shapes(shapes, replace(STRAIGHT, turn=turn))
    assert set(np.unique(canvas.label())) == {0, front}


@pytest.mark.parametrize(
    ("turn", "share"), [(0.0, np.sin(pi / 6)), (pi / 2, 0.5 * (1 - np.sin(pi / 3))), (pi, 0.0)]
)
def test_a_patch_shows_the_part_of_the_surface_that_faces_the_camera(
    turn: float, share: float
) -> None:
    # A patch of +-30 degrees about the front of a round tube of half-width 0.2: seen from the
    # front it spans 2 sin 30 of the half-width; from the side 1 - sin 60; from behind nothing.
    round_tube = [(0.0, 0.2, 0.0, 0.2, 0.2), (0.0, 0.8, 0.0, 0.2, 0.2)]
    patch = Shape(list(round_tube), 13, (1, 2, 3), 0.0, cap=0.0, half=pi / 6)
    canvas = Canvas((100, 100))
    canvas.shapes([patch], replace(STRAIGHT, turn=turn))
    width = (canvas.label() == 13).any(axis=0).sum()
    assert width == pytest.approx(40 * share, abs=1.1)


@pytest.mark.parametrize("kind", OCCLUDERS)
def test_occluders_become_background_and_hide_colour_and_label_alike(kind: str) -> None:
    whole = Canvas((100, 100))
    wall = [(0.0, 0.0), (100.0, 0.0), (100.0, 100.0), (0.0, 100.0)]
    whole.polygon(whole.part(5, (200, 10, 10)), wall)
    assert (whole.label() == 5).all()
    occlude(np.random.default_rng(2), whole, kind)
    hidden = whole.label() == 0
    assert 20 < hidden.sum() < 9000
    flat, cover = whole.colour(whole.parts())
    assert (cover == 1).all()
    red = (flat == np.array([200, 10, 10])).all(axis=2)
    assert not red[hidden].any()


def test_an_unknown_occluder_is_an_error() -> None:
    with pytest.raises(ValueError, match="occluder 'tree'"):
        occlude(np.random.default_rng(0), Canvas((10, 10)), "tree")


def test_a_pattern_changes_the_colour_and_never_the_label() -> None:
    shape = column(0.0, 0.0)
    shape.patterned, shape.second = True, (0, 0, 250)
    canvas = Canvas((100, 100))
    canvas.shapes([shape], STRAIGHT)
    plain = canvas.label()
    upper_half = np.zeros((200, 200), dtype=bool)
    upper_half[:100] = True
    flat, _ = canvas.colour(canvas.parts(upper_half))
    assert flat[30, 50].tolist() == [0, 0, 250]
    assert flat[70, 50].tolist() == [200, 10, 10]
    assert np.array_equal(canvas.label(), plain)


def test_a_canvas_refuses_more_parts_than_it_can_number() -> None:
    canvas = Canvas((4, 4))
    for _ in range(127):
        canvas.part(0, (0, 0, 0))
    with pytest.raises(ValueError, match="127 parts"):
        canvas.part(0, (0, 0, 0))


def test_a_neutral_camera_changes_nothing_but_the_exposure() -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (64, 32, 3), dtype=np.uint8)
    seen = np.asarray(expose(np.random.default_rng(1), Image.fromarray(pixels), NEUTRAL))
    factor = seen.sum() / pixels.sum()
    assert 0.92 < factor < 1.08
    assert np.abs(seen - factor * pixels).max() < 1.5


def test_a_colour_cast_multiplies_the_channels() -> None:
    grey = Image.new("RGB", (32, 64), (100, 100, 100))
    cast = replace(NEUTRAL, gains=(1.5, 1.0, 0.5))
    red, green, blue = np.asarray(expose(np.random.default_rng(1), grey, cast))[0, 0].tolist()
    assert red / green == pytest.approx(1.5, abs=0.03)
    assert blue / green == pytest.approx(0.5, abs=0.03)


def test_low_resolution_removes_detail_and_keeps_size() -> None:
    pixels = np.zeros((256, 128, 3), dtype=np.uint8)
    pixels[::2] = 200
    low = replace(NEUTRAL, rows=64)
    seen = np.asarray(expose(np.random.default_rng(1), Image.fromarray(pixels), low))
    assert seen.shape == (256, 128, 3)
    assert seen.std() < 5 < pixels.std()


def test_sharpening_adds_halos_at_edges_only() -> None:
    pixels = np.full((64, 32, 3), 60, dtype=np.uint8)
    pixels[:, 16:] = 160
    halos = replace(NEUTRAL, sharpen=1.0)
    seen = np.asarray(expose(np.random.default_rng(1), Image.fromarray(pixels), halos))
    plain = np.asarray(expose(np.random.default_rng(1), Image.fromarray(pixels), NEUTRAL))
    assert seen[30, 16, 0] > plain[30, 16, 0] + 5 and seen[30, 15, 0] < plain[30, 15, 0] - 5
    assert np.array_equal(seen[:, :8], plain[:, :8])


def test_cameras_differ_and_stay_themselves() -> None:
    assert camera_of(0, 1) == camera_of(0, 1)
    assert len({camera_of(0, number).gains for number in range(10)}) == 10
    assert camera(np.random.default_rng(3), 0, strength=0.0).gains == (1.0, 1.0, 1.0)
    tints = np.array(
        [
            np.mean([draw(0, pid, number, 0).image.mean(axis=(0, 1)) for pid in range(1, 9)], 0)
            for number in range(4)
        ]
    )
    assert np.ptp(tints, axis=0).max() > 10


def test_scenes_are_reproducible_and_various() -> None:
    first, words = scene(0, 3)
    scene.cache_clear()
    again, same_words = scene(0, 3)
    assert np.array_equal(first, again) and words == same_words
    assert first.std() > 1
    assert len({scene(0, number)[1] for number in range(30)}) > 10
