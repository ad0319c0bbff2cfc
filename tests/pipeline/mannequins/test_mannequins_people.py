"""Who the generated people are: attributes, twins, captions."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from pipeline.mannequins.body import dress, hip_width, shoulder_width
from pipeline.mannequins.identities import TWIN_PARTS, Identity, identity
from pipeline.mannequins.pose import Skeleton, pose
from pipeline.mannequins.shape import BACKGROUND, HAT, LEFT_SHOE, RIGHT_SHOE


def bones(who: Identity) -> Skeleton:
    return pose(
        np.random.default_rng(5),
        shoulder=shoulder_width(who),
        hip=hip_width(who),
        carries=None,
    )


def test_identities_are_functions_of_seed_and_pid() -> None:
    assert identity(1, 7) == identity(1, 7)
    assert identity(1, 7) != identity(2, 7)
    captions = {identity(0, pid).caption for pid in range(1, 301)}
    assert len(captions) > 290


def test_pids_start_at_one() -> None:
    with pytest.raises(ValueError, match="pid is 0"):
        identity(0, 0)


def test_a_quarter_are_twins_and_every_part_has_its_turn() -> None:
    everyone = [identity(0, pid) for pid in range(1, 121)]
    twins = [who for who in everyone if who.twin_of is not None]
    assert len(twins) == 30
    assert {part: sum(who.differs_in == part for who in twins) for part in TWIN_PARTS} == {
        "shoes": 10,
        "hat": 10,
        "bag": 10,
    }


@pytest.mark.parametrize("pid", range(4, 100, 4))
def test_twins_differ_in_the_named_part_alone(pid: int) -> None:
    twin = identity(0, pid)
    assert twin.twin_of == pid - 1
    original = identity(0, pid - 1)
    book = {"pid", "twin_of", "differs_in"}
    changed = {
        field.name
        for field in fields(Identity)
        if field.name not in book and getattr(twin, field.name) != getattr(original, field.name)
    }
    assert changed and changed <= set(TWIN_PARTS[twin.differs_in])
    assert twin.caption != original.caption

    classes = {"shoes": {LEFT_SHOE, RIGHT_SHOE}, "hat": {HAT}, "bag": {BACKGROUND}}
    ours, theirs = dress(twin, bones(twin)), dress(original, bones(original))
    allowed = classes[twin.differs_in]
    assert [s for s in ours if s.label not in allowed] == [
        s for s in theirs if s.label not in allowed
    ]
    assert [s for s in ours if s.label in allowed] != [s for s in theirs if s.label in allowed]


@pytest.mark.parametrize("pid", range(4, 100, 4))
def test_what_twins_differ_in_can_be_seen(pid: int) -> None:
    twin, original = identity(0, pid), identity(0, pid - 1)
    part = twin.differs_in
    kinds = {"shoes": "shoes_type", "hat": "hat", "bag": "bag"}
    if getattr(twin, kinds[part]) == getattr(original, kinds[part]):
        ours, theirs = twin.colour(part), original.colour(part)
        assert sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > 140


def test_captions_name_every_attribute() -> None:
    for pid in range(1, 200):
        who = identity(0, pid)
        named = [
            who.build,
            f"{who.skin} skin",
            who.hair_colour,
            who.hair_style,
            f"{who.upper_colour} {who.upper_type}",
            f"{who.shoes_colour} {who.shoes_type}",
        ]
        if who.upper_pattern != "plain":
            named.append(f"{who.upper_second_colour} {who.upper_pattern}")
        if who.lower_type != "none":
            named.append(f"{who.lower_colour} {who.lower_type}")
        if who.coat != "none":
            named.append(f"{who.coat_open} {who.coat_colour} {who.coat}")
        if who.hat != "none":
            named.append(f"{who.hat_colour} {who.hat}")
        if who.bag != "none":
            named.append(f"{who.bag_colour} {who.bag}")
        if who.scarf != "none":
            named.append(f"{who.scarf} scarf")
        if who.gloves != "none":
            named.append(f"{who.gloves} gloves")
        if who.socks != "none":
            named.append(f"{who.socks_colour} socks")
        for words in named:
            assert words in who.caption, (words, who.caption)
        assert ("sunglasses" in who.caption) == (who.sunglasses == "yes")
        assert " a orange" not in who.caption and "none" not in who.caption


def test_absent_things_have_no_colour() -> None:
    for pid in range(1, 200):
        who = identity(0, pid)
        for kind, colour in (
            ("coat", "coat_colour"),
            ("hat", "hat_colour"),
            ("bag", "bag_colour"),
            ("socks", "socks_colour"),
            ("lower_type", "lower_colour"),
        ):
            assert (getattr(who, kind) == "none") == (getattr(who, colour) == "none")


def test_feet_stand_on_the_ground_in_every_pose() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        skeleton = pose(rng, shoulder=0.1, hip=0.046, carries=None)
        lowest = min(min(leg.heel[1], leg.toe[1]) for leg in skeleton.legs)
        assert lowest == pytest.approx(0.019)
        left, right = skeleton.arms
        assert left.shoulder[0] == -right.shoulder[0] > 0


def test_limbs_keep_their_length_in_every_pose() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        for leg in pose(rng, shoulder=0.1, hip=0.046, carries=0).legs:
            thigh = np.hypot(leg.hip[1] - leg.knee[1], leg.hip[2] - leg.knee[2])
            shin = np.hypot(leg.knee[1] - leg.ankle[1], leg.knee[2] - leg.ankle[2])
            assert thigh == pytest.approx(0.235) and shin == pytest.approx(0.24)
            # Knees bend backwards only: the shin never points further forward than the thigh.
            forward = [
                np.arctan2(b[2] - a[2], a[1] - b[1])
                for a, b in ((leg.hip, leg.knee), (leg.knee, leg.ankle))
            ]
            assert forward[1] <= forward[0] + 1e-9
