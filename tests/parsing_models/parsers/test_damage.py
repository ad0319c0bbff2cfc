"""Label maps made worse: amounts, which are counted by hand, and draws of the image's own."""

from __future__ import annotations

import numpy as np
import pytest

from parsing_models.parsers.damage import damaged
from pipeline.labels.sets import LIP, PASCAL
from pipeline.terminal.errors import ReidpipeError

KEYS = [f"images/{number}.jpg" for number in range(400)]


def person() -> np.ndarray:
    """Hair, upper-clothes between two arms, pants, a left and a right shoe; the rest background."""
    label = np.zeros((24, 12), np.uint8)
    label[2:5, 4:8] = 2
    label[5:12, 4:8] = 5
    label[5:12, 2:4], label[5:12, 8:10] = 15, 14
    label[12:20, 4:8] = 9
    label[20:22, 4:6], label[20:22, 6:8] = 19, 18
    return label


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_so_many_pixels_get_another_class(share: float):
    found = damaged(person(), "a", {"flipped": share}, LIP)
    assert (found != person()).sum() == round(share * person().size)
    assert found.dtype == np.uint8 and found.max() < len(LIP)


def test_every_other_class_is_as_likely():
    plain = np.full((250, 200), 5, np.uint8)
    counts = np.bincount(damaged(plain, "a", {"flipped": 1.0}, LIP).ravel(), minlength=20)
    # 50,000 draws of 19 classes: 2632 each, standard deviation 50.
    assert counts[5] == 0 and np.abs(np.delete(counts, 5) - 50000 / 19).max() < 250


def test_borders_move_by_whole_pixels_into_one_of_the_two():
    label = np.zeros((6, 20), np.uint8)
    label[:, 10:] = 5
    columns = {int((damaged(label, key, {"borders": 3}, LIP)[2] == 0).sum()) for key in KEYS[:40]}
    assert columns == {7, 13}
    # A pixel of the winning class becomes a square of 2 * 3 + 1.
    dot = np.zeros((15, 15), np.uint8)
    dot[7, 7] = 9
    sizes = {int((damaged(dot, key, {"borders": 3}, LIP) == 9).sum()) for key in KEYS[:40]}
    assert sizes == {0, 49}


def test_a_share_of_the_parts_is_missing():
    before = set(np.unique(person())) - {0}
    for key in KEYS[:20]:
        found = damaged(person(), key, {"missing": 0.5}, LIP)
        kept = set(np.unique(found)) - {0}
        # Of seven parts three or four are lost; what is left is as it was.
        assert len(before) == 7 and len(kept) in (3, 4)
        assert np.array_equal(found, np.where(np.isin(person(), list(kept)), person(), 0))
    lost = [7 - (len(np.unique(damaged(person(), key, {"missing": 0.5}, LIP))) - 1) for key in KEYS]
    assert np.mean(lost) == pytest.approx(3.5, abs=0.1)
    assert not damaged(person(), "a", {"missing": 1.0}, LIP).any()
    nobody = np.zeros((4, 4), np.uint8)
    assert not damaged(nobody, "a", {"missing": 0.5}, LIP).any()


def test_sides_are_exchanged_in_a_share_of_the_images():
    turned = damaged(person(), "a", {"exchanged": 1.0}, LIP)
    expected = person()
    for left, right in LIP.flip_pairs:
        expected[person() == left], expected[person() == right] = right, left
    assert np.array_equal(turned, expected) and not np.array_equal(turned, person())
    maps = [damaged(person(), key, {"exchanged": 0.3}, LIP) for key in KEYS]
    whole = [np.array_equal(found, turned) for found in maps]
    for found, was in zip(maps, whole, strict=True):
        assert was or np.array_equal(found, person())
    # 400 images: 120 and a standard deviation of 9.
    assert 90 <= sum(whole) <= 150


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("flipped", (0.1, 0.4)),
        ("borders", (1, 4)),
        ("missing", (0.2, 0.7)),
        ("exchanged", (0.2, 0.7)),
    ],
)
def test_more_damage_is_the_lesser_and_more(name: str, shares: tuple[float, float]):
    changed = 0
    for key in KEYS[:30]:
        less, more = (damaged(person(), key, {name: share}, LIP) != person() for share in shares)
        assert not (less & ~more).any()
        changed += int(more.sum() > less.sum())
    assert changed > 5


def test_damage_is_the_same_in_every_run_and_another_for_each_image_and_kind():
    everything = {"exchanged": 0.5, "missing": 0.3, "borders": 2, "flipped": 0.2}
    maps = [damaged(person(), key, everything, LIP) for key in ("a", "a", "b")]
    assert np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[1], maps[2])
    one_by_one = person()
    for name, amount in everything.items():
        one_by_one = damaged(one_by_one, "a", {name: amount}, LIP)
    assert np.array_equal(one_by_one, maps[0])
    assert np.array_equal(damaged(person(), "a", dict(reversed(everything.items())), LIP), maps[0])


def test_maps_without_sides_have_none_to_exchange():
    with pytest.raises(ReidpipeError, match=r"exchanged=0.5 for label maps of 'pascal'"):
        damaged(np.ones((4, 4), np.uint8), "a", {"exchanged": 0.5}, PASCAL)
