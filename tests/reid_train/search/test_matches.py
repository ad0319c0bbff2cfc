"""Matches of hand-made features: right or wrong, by whatever either side calls a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid_train.search.about import About
from reid_train.search.gallery import Gallery
from reid_train.search.matches import Files, Match, Query, find_matches

ROWS = np.eye(3, dtype=np.float32)


def matches_of(query: Query, about: About) -> dict[str, Match]:
    """name in the gallery -> its match."""
    gallery = Gallery.of(about, ROWS)
    files = Files(about.names, about.path)
    ((_, found),) = find_matches(
        [query], gallery, files, top=3, threshold=None, passing=False, hidden=[set()]
    )
    return {match.name: match for match in found}


def about(**columns: object) -> About:
    return About.model_validate(
        {"model_key": "k", "flip": False, "normalise": True, "names": ["a", "b", "c"], **columns}
    )


def asked(**known: str) -> Query:
    return Query(Path("q.jpg"), ROWS[0], **known)


@pytest.mark.parametrize(
    ("identities", "person", "verdicts"),
    [
        # g/0001, g/0002, g/bob keep their texts; q/0001, q/0002 are numbers.
        ({"1": "0001", "2": "0002", "3": "bob"}, "1", ["right", "wrong", "wrong"]),
        ({}, "0002", ["wrong", "right", "wrong"]),
        ({"3": "bob"}, "bob", ["wrong", "wrong", "right"]),
        ({"1": "anna"}, "1", ["wrong", "wrong", "wrong"]),
        ({"1": "007", "2": "7"}, "07", ["wrong", "wrong", "wrong"]),
    ],
)
def test_right_is_who_has_the_number(identities: dict[str, str], person: str, verdicts: list[str]):
    found = matches_of(asked(person=person), about(pids=[1, 2, 3], identities=identities))
    assert [found[name].verdict for name in "abc"] == verdicts


def test_nothing_is_told_of_who_is_not_known():
    found = matches_of(asked(), about(pids=[1, None, 3]))
    assert {match.verdict for match in found.values()} == {None}
    found = matches_of(asked(person="1"), about(pids=[1, None, 3]))
    assert [found[name].verdict for name in "abc"] == ["right", None, "wrong"]


@pytest.mark.parametrize(
    ("cameras", "camera", "same"),
    [
        ({"0": "cam1", "1": "cam2"}, "cam2", [False, True, None]),
        ({"0": "cam1", "1": "cam2"}, "door", [False, False, None]),
        ({"0": "cam1", "1": "cam2"}, "0", [None, None, None]),  # which of them is 0?
        ({"0": "cam1"}, "1", [None, True, None]),
        ({}, "1", [False, True, None]),
        ({}, "cam1", [None, None, None]),  # an older gallery, or one of a prepared dataset
    ],
)
def test_cameras_are_compared_by_what_they_are_called(
    cameras: dict[str, str], camera: str, same: list[bool | None]
):
    found = matches_of(asked(camera=camera), about(camids=[0, 1, None], cameras=cameras))
    assert [found[name].same_camera for name in "abc"] == same


def test_the_own_row_says_who_and_where():
    said = about(pids=[1, 2, 3], camids=[0, 1, 0], cameras={"0": "cam1", "1": "cam2"})
    files = Files(said.names, said.path)
    known = files.known(Query(Path("b"), ROWS[1]), Gallery.of(said, ROWS))
    assert (known.person, known.camera) == ("2", "cam2")
