"""Few-shot draws and class halves, by hand and as properties."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.terminal.errors import ReidpipeError
from reid_train.data.shots import (
    Draw,
    Row,
    draw_shots,
    halve_classes,
    harmonic_mean,
    names_of_classes,
    of_classes,
)


def _rows(*counts: int) -> list[Row]:
    """``counts[label]`` images of each class, the classes mixed."""
    most = max(counts, default=0)
    return [
        Row(f"{label}/{number}.jpg", label, f"class {label}")
        for number in range(most)
        for label, count in reversed(list(enumerate(counts)))
        if number < count
    ]


SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@given(sizes=SIZES, shots=st.integers(1, 16), seed=st.integers(0, 5))
def test_every_class_gives_its_shots_or_all_it_has(sizes, shots, seed):
    rows = _rows(*sizes)
    draw = draw_shots(rows, rows, shots=shots, seed=seed)
    for part, limit in ((draw.train, shots), (draw.val, min(shots, 4))):
        assert len(set(part)) == len(part) and set(part) <= set(rows)
        counts = Counter(row.label for row in part)
        assert counts == {label: min(size, limit) for label, size in enumerate(sizes)}
    assert draw == draw_shots(rows, rows, shots=shots, seed=seed)


def test_the_draw_is_that_of_the_authors_loop():
    """One generator through train, then val; classes in order of appearance; a class that has too
    few draws nothing from it."""
    train, val = _rows(9, 3, 9), _rows(6, 6, 6)
    random.seed(3)
    expected = []
    for rows, shots in ((train, 5), (val, 4)):
        for label in (2, 1, 0):  # as they appear, see _rows
            members = [row for row in rows if row.label == label]
            expected += random.sample(members, shots) if len(members) >= shots else members
    draw = draw_shots(train, val, shots=5, seed=3)
    assert [*draw.train, *draw.val] == expected
    assert len(draw.train) == 5 + 3 + 5 and len(draw.val) == 12


def test_seeds_differ_and_the_global_generator_is_left_alone():
    rows = _rows(40, 40)
    random.seed(11)
    before = random.getstate()
    draws = {draw_shots(rows, shots=4, seed=seed).train for seed in (1, 2, 3)}
    assert len(draws) == 3 and random.getstate() == before


def test_a_draw_survives_the_disk_as_json(tmp_path):
    draw = draw_shots(_rows(9, 3), _rows(2, 2), shots=8, seed=1)
    draw.write(tmp_path / "draw.json")
    assert Draw.read(tmp_path / "draw.json") == draw
    content = json.loads((tmp_path / "draw.json").read_text())
    assert (content["shots"], content["seed"]) == (8, 1)
    assert content["train"][0] == list(draw.train[0])


@pytest.mark.parametrize("content", ["[]", '{"train": []}', '{"shots": 1, "seed": 1, "train": 3}'])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "draw.json").write_text(content)
    with pytest.raises(ReidpipeError, match="no few-shot draw"):
        Draw.read(tmp_path / "draw.json")


@pytest.mark.parametrize("shots", [0, -1])
def test_no_shot_is_no_draw(shots):
    with pytest.raises(ReidpipeError, match="shots; expected 1 or more"):
        draw_shots(_rows(2), shots=shots, seed=1)


def test_names_stand_in_label_order_and_may_repeat():
    rows = [
        Row("a", 2, "missile"),
        Row("b", 0, "crane"),
        Row("c", 1, "missile"),
        Row("d", 0, "crane"),
    ]
    assert names_of_classes(rows) == ["crane", "missile", "missile"]


@pytest.mark.parametrize(
    ("labels", "missing"), [((0, 2), 1), ((1, 2), 0), ((0, 1, 998), 2), ((-1, 0), -1), ((), 0)]
)
def test_a_label_without_a_name_is_refused(labels, missing):
    with pytest.raises(ReidpipeError, match=f"no name for label {missing} "):
        names_of_classes(Row("x", label, f"name {label}") for label in labels)


def test_two_names_for_a_label_are_refused():
    with pytest.raises(ReidpipeError, match="label 0 named 'cat' and 'dog'"):
        names_of_classes([Row("a", 0, "cat"), Row("b", 0, "dog")])


@pytest.mark.parametrize(("count", "base"), [(2, 1), (3, 2), (37, 19), (102, 51), (1000, 500)])
def test_base_classes_are_the_first_half_rounded_up(count, base):
    halves = halve_classes(count)
    assert list(halves.base) == list(range(base))
    assert list(halves.new) == list(range(base, count))


def test_one_class_has_no_halves():
    with pytest.raises(ReidpipeError, match="1 classes; expected 2"):
        halve_classes(1)


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=7))
def test_halves_share_no_image_and_are_labelled_from_zero(sizes):
    rows = _rows(*sizes)
    names = names_of_classes(rows)
    halves = halve_classes(len(sizes))
    parts = [of_classes(rows, half) for half in halves]
    assert sorted(row.path for part in parts for row in part) == sorted(row.path for row in rows)
    for part, half in zip(parts, halves, strict=True):
        assert names_of_classes(part) == [names[label] for label in half]


def test_halves_are_taken_of_one_and_the_same_draw():
    rows = _rows(9, 9, 9)
    draw = draw_shots(rows, shots=2, seed=1)
    base, new = (of_classes(draw.train, half) for half in halve_classes(3))
    assert {row.path for row in base} | {row.path for row in new} == {r.path for r in draw.train}
    assert {row.label for row in new} == {0}


def test_harmonic_mean():
    assert harmonic_mean(0.5, 0.25) == pytest.approx(1 / 3)
    assert harmonic_mean(82.28, 75.14) == pytest.approx(78.55, abs=0.005)  # MaPLe's table
    assert harmonic_mean(0.0, 0.0) == 0.0 and harmonic_mean(0.0, 1.0) == 0.0
