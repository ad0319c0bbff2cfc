"""Clothing Co-Parsing's labels beside LIP's: what both tell apart, and what is not scored."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.labels.garments import CCP, GARMENTS, common_ground
from pipeline.labels.sets import ATR, CIHP, IGNORE, LABEL_SETS, LIP, PARTS, PASCAL, LabelSet

# In the order of the authors' label_list.mat, where class 0 is "null".
PUBLISHED = {
    1: "accessories", 2: "bag", 13: "coat", 14: "dress", 19: "hair", 20: "hat", 31: "pants",
    39: "shoes", 41: "skin", 46: "suit", 51: "t-shirt", 54: "top", 58: "wedges",
}  # fmt: skip


def test_classes_stand_at_the_authors_numbers():
    assert len(CCP) == 59 and {n: CCP.names[n] for n in PUBLISHED} == PUBLISHED


def test_every_class_of_lip_is_a_garment_and_most_of_ccp_are():
    common, truth, maps = common_ground(CCP, LIP)
    assert common is GARMENTS
    assert set(maps[: len(LIP)].tolist()) == set(range(len(GARMENTS)))
    assert set(truth[: len(CCP)].tolist()) == {*range(len(GARMENTS)), IGNORE}
    assert (truth[len(CCP) :] == IGNORE).all() and (maps[len(LIP) :] == IGNORE).all()
    left_out = {CCP.names[n] for n in np.flatnonzero(truth[: len(CCP)] == IGNORE)}
    assert left_out == {
        "accessories", "bag", "belt", "bodysuit", "bra", "bracelet", "earrings", "intimate",
        "necklace", "panties", "purse", "ring", "stockings", "suit", "swimwear", "tie", "wallet",
        "watch",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ccp", "lip"),
    [
        ("skin", "face"), ("skin", "right-leg"), ("boots", "left-shoe"), ("jeans", "pants"),
        ("blazer", "coat"), ("sweater", "upper-clothes"), ("sunglasses", "sunglasses"),
        ("romper", "jumpsuits"), ("background", "background"),
    ],
)  # fmt: skip
def test_the_same_thing_is_one_garment(ccp: str, lip: str):
    _, truth, maps = common_ground(CCP, LIP)
    assert truth[CCP.names.index(ccp)] == maps[LIP.names.index(lip)] != IGNORE


@pytest.mark.parametrize("maps", [CIHP, ATR, PASCAL, PARTS], ids=lambda labels: labels.name)
def test_other_parsers_are_scored_in_parts_where_skin_says_nothing(maps: LabelSet):
    common, truth, of_maps = common_ground(CCP, maps)
    assert common is PARTS
    assert truth[CCP.names.index("skin")] == IGNORE
    assert PARTS.names[truth[CCP.names.index("pants")]] == "legs"
    assert PARTS.names[truth[CCP.names.index("dress")]] == "torso"
    assert of_maps[: len(maps)].tolist() == maps.map_to(PARTS).tolist()


@pytest.mark.parametrize("one", LABEL_SETS.values(), ids=lambda labels: labels.name)
@pytest.mark.parametrize("other", LABEL_SETS.values(), ids=lambda labels: labels.name)
def test_sets_of_parsers_keep_their_common_ground(one: LabelSet, other: LabelSet):
    common, truth, maps = common_ground(one, other)
    expected = one if one.names == other.names else PARTS
    assert common.names == expected.names
    assert truth[: len(one)].tolist() == one.map_to(expected).tolist()
    assert maps[: len(other)].tolist() == other.map_to(expected).tolist()
