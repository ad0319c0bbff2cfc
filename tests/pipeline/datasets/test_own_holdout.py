"""People held out for a test: who, how many, and what asks whom."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.layouts.own import Holdout
from pipeline.datasets.layouts.own.found import Found
from pipeline.datasets.layouts.own.holdout import hold_out, query_and_gallery
from pipeline.terminal.errors import ReidpipeError
from tests import trees


def images(people: int, per: int, cameras: int = 0) -> list[Found]:
    return [
        Found(f"{p}/{i}.jpg", "train", f"p{p}", f"cam{i % cameras}" if cameras else "")
        for p in range(people)
        for i in range(per)
    ]


def by_split(found: list[Found]) -> dict[str, set[str]]:
    result: dict[str, set[str]] = defaultdict(set)
    for image in found:
        result[image.split].add(image.person)
    return result


@pytest.mark.parametrize(
    ("text", "people"), [("0.5", 5), ("4", 4), ("1.0", 10), ("0.01", 1), ("10", 10)]
)
def test_a_share_or_a_number(text: str, people: int):
    found, line = hold_out(images(10, 4), Holdout.parse(text))
    splits = by_split(found)
    assert len(splits["query"]) == people and splits["query"] == splits["gallery"]
    assert not splits["query"] & splits["train"] and len(splits["train"]) == 10 - people
    assert f"held out {people} of 10 people" in line and "seed 0" in line


@pytest.mark.parametrize("text", ["0", "-3", "0.0", "1.5", "half", "", "nan", "1e3", "30%"])
def test_no_share_and_no_number(text: str):
    with pytest.raises(ReidpipeError, match="--holdout 0.3 or --holdout 20"):
        Holdout.parse(text)


def test_with_cameras_one_query_a_person_and_camera():
    found, _ = hold_out(images(4, 6, cameras=3), Holdout(people=2))
    for person in by_split(found)["query"]:
        asked = [i.camera for i in found if i.person == person and i.split == "query"]
        assert sorted(asked) == ["cam0", "cam1", "cam2"]


def test_one_image_a_camera_leaves_one_to_be_found():
    found, _ = hold_out(images(4, 2, cameras=2), Holdout(people=2))
    assert sorted(image.split for image in found) == ["gallery"] * 2 + ["query"] * 2 + ["train"] * 4


def test_people_of_one_camera_or_one_image_cannot_be_asked_for():
    one = [Found("x/1.jpg", "train", "x", "cam0"), Found("x/2.jpg", "train", "x", "cam0")]
    found, _ = hold_out([*images(3, 2, cameras=2), *one], Holdout(people=3))
    assert by_split(found)["train"] == {"x"}
    with pytest.raises(ReidpipeError, match="found 3 people seen by two cameras of 4; .* the 4"):
        hold_out([*images(3, 2, cameras=2), *one], Holdout(people=4))
    with pytest.raises(ReidpipeError, match="found nobody with two images among 5 people"):
        hold_out(images(5, 1), Holdout(people=1))


def test_people_who_come_later_move_nobody():
    before, _ = hold_out(images(10, 3), Holdout(people=4))
    after, _ = hold_out(images(13, 3), Holdout(people=4))
    assert [i for i in after if i.person in by_split(before)["train"] and i.split != "train"] == []


def test_the_seed_decides():
    tests = [tuple(sorted(by_split(hold_out(images(12, 3), Holdout(people=6, seed=s))[0])["query"]))
             for s in (0, 0, 1, 2)]  # fmt: skip
    assert tests[0] == tests[1] and len(set(tests)) > 1


def test_a_test_there_is_stays(tmp_path: Path):
    trees.pictures(tmp_path, ["train/1/a.jpg", "query/2/a.jpg", "gallery/2/b.jpg"])
    with pytest.raises(ReidpipeError, match="found --holdout and images in gallery and query"):
        read_layout(tmp_path, load_manifest("folder"), holdout=Holdout(people=1))


def test_published_sets_have_their_splits(tmp_path: Path):
    trees.market1501(tmp_path)
    with pytest.raises(ReidpipeError, match="found a holdout for market1501; its splits are known"):
        read_layout(tmp_path, load_manifest("market1501"), holdout=Holdout(people=1))


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["", "a", "b", "c"])), min_size=1, max_size=40
    ),
    st.integers(0, 3),
)
def test_every_query_has_a_match(drawn: list[tuple[int, str]], seed: int):
    test = [Found(f"{k}.jpg", "test", f"p{p}", c) for k, (p, c) in enumerate(drawn)]
    found = query_and_gallery(test, seed)
    cameras = any(image.camera for image in test)
    assert {i.path for i in found} == {i.path for i in test}
    for query in (i for i in found if i.split == "query"):
        matches = [g for g in found if g.split == "gallery" and g.person == query.person]
        if cameras:
            matches = [g for g in matches if g.camera and g.camera != query.camera]
        assert matches
