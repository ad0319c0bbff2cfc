"""Who is on a label map."""

from __future__ import annotations

import numpy as np
import pytest

from parsing_models.bodies import centred, findings, standing_bodies


def empty() -> np.ndarray:
    return np.zeros((256, 128), np.uint8)


def drawn(*boxes: tuple[int, int, int, int], label: int = 5) -> np.ndarray:
    """Boxes of foreground: rows from, to, columns from, to; every other row of a second class."""
    found = empty()
    for top, bottom, left, right in boxes:
        found[top:bottom, left:right] = label
        found[top:bottom:2, left:right] = label + 1
    return found


BODY = (30, 230, 45, 80)


def test_nobody_hardly_anybody_and_one_class():
    assert findings(empty()) == ["no_person"]
    # 5 % of 256 x 128 are 1638.4 pixels.
    assert findings(drawn((0, 42, 0, 39))) == ["little_person"]
    assert findings(drawn((0, 42, 0, 40))) == []
    whole = empty()
    whole[20:200, 20:90] = 3
    assert findings(whole) == ["one_class"]


@pytest.mark.parametrize(
    ("other", "two"),
    [
        ((30, 230, 95, 120), True),  # beside
        ((40, 140, 95, 125), True),  # smaller, behind
        ((30, 230, 95, 103), False),  # 8 of 35 columns are less than a quarter
        ((30, 230, 95, 104), True),
        ((236, 250, 45, 120), False),  # below: a shadow, or feet that belong to it
        ((215, 256, 95, 128), False),  # its rows are not the body's: a bag on the floor
    ],
)
def test_a_second_body_stands_beside_and_is_no_crumb(other: tuple[int, ...], two: bool):
    label = drawn(BODY, tuple(other))  # pyright: ignore[reportArgumentType]
    assert ("two_bodies" in findings(label)) == two
    alone = centred(label)
    assert (alone is not None) == two
    if alone is not None:
        assert np.array_equal(alone, drawn(BODY))


def test_legs_cut_from_a_trunk_are_no_second_body():
    assert findings(drawn((30, 120, 45, 80), (130, 240, 40, 60), (130, 240, 62, 84))) == []
    # Beside somebody whole, both their pieces go or stay.
    pair = drawn((30, 230, 5, 35), (30, 120, 50, 80), (130, 240, 52, 78))
    alone = centred(pair)
    assert alone is not None and np.array_equal(alone, np.where(np.arange(128) < 40, 0, pair))


def test_crumbs_stay_and_the_larger_of_two_equally_central_bodies():
    label = drawn((30, 230, 20, 50), (30, 200, 78, 108), (5, 8, 118, 121))
    alone = centred(label)
    assert alone is not None
    assert np.array_equal(alone, drawn((30, 230, 20, 50), (5, 8, 118, 121)))
    pieces, bodies = standing_bodies(label)
    assert [body.pixels for body in bodies] == [6000, 5100] and pieces.max() == 3
    # The one cut by the border is not the central one, however large.
    moved = centred(drawn((0, 256, 0, 45), (60, 200, 60, 90)))
    assert moved is not None and np.array_equal(moved, drawn((60, 200, 60, 90)))


def test_corners_connect_and_size_does_not_matter():
    diagonal = np.kron(np.eye(4, dtype=np.uint8), np.full((20, 20), 7, np.uint8))
    assert findings(diagonal) == ["one_class"]
    small = drawn(BODY, (30, 230, 95, 120))[::4, ::4]
    assert "two_bodies" in findings(small)


@pytest.mark.parametrize("seed", range(60))
def test_the_short_way_finds_as_many_bodies(seed: int):
    """Boxes, holes and crumbs anywhere, of odd sizes too: findings are those of all the pieces."""
    rng = np.random.default_rng(seed)
    label = np.zeros((int(rng.integers(1, 90)), int(rng.integers(1, 90))), np.uint8)
    for value in rng.integers(0, 3, 6):
        top, left = rng.integers(0, label.shape[0]), rng.integers(0, label.shape[1])
        label[top : top + rng.integers(1, 60), left : left + rng.integers(1, 40)] = value
    label[rng.random(label.shape) < 0.05 * (seed % 3)] = 0
    found = findings(label)
    assert ("two_bodies" in found) == (len(standing_bodies(label)[1]) > 1)
    present = set(np.unique(label)) - {0}
    assert ("no_person" in found) == (not present)
    assert ("one_class" in found) == (len(present) == 1)
    assert findings(np.asfortranarray(label)) == findings(label[::-1][::-1]) == found
