"""Label sets: the published orders and colours, total conversions, exact round trips."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.labels.sets import ATR, CIHP, LABEL_SETS, LIP, PARTS, PASCAL, LabelSet
from pipeline.terminal.errors import ReidpipeError

SETS = st.sampled_from(list(LABEL_SETS.values()))


def test_published_sizes_and_orders():
    assert {name: len(labels) for name, labels in LABEL_SETS.items()} == {
        "lip": 20,
        "cihp": 20,
        "atr": 18,
        "pascal": 7,
        "parts": 5,
    }
    assert LIP.names[9] == "pants" and LIP.names[13] == "face" and LIP.names[19] == "right-shoe"
    assert ATR.names[6] == "pants" and ATR.names[11] == "face" and ATR.names[16] == "bag"
    assert [i for i in range(20) if LIP.names[i] != CIHP.names[i]] == [10]


def test_palette_is_the_voc_colour_map():
    assert LIP.palette[1] == (128, 0, 0)
    assert LIP.palette[8] == (64, 0, 0)
    assert LIP.palette[13] == (192, 0, 128)
    assert LIP.palette[16] == (0, 64, 0)
    assert LIP.palette[19] == (128, 192, 0)
    assert ATR.palette == LIP.palette[:18] and PASCAL.palette == LIP.palette[:7]


def test_atr_to_lip_is_the_published_table():
    expected = [0, 1, 2, 4, 5, 12, 9, 6, 9, 18, 19, 13, 16, 17, 14, 15, 0, 11]
    assert ATR.map_to(LIP).tolist() == expected
    assert not {3, 7, 8, 10} & set(expected)


def test_lip_to_the_common_parts():
    table = LIP.map_to(PARTS)
    groups = {part: np.flatnonzero(table == part).tolist() for part in range(5)}
    assert groups == {
        0: [0],
        1: [1, 2, 4, 13],
        2: [5, 6, 7, 10, 11],
        3: [3, 14, 15],
        4: [8, 9, 12, 16, 17, 18, 19],
    }
    assert PASCAL.map_to(PARTS).tolist() == [0, 1, 2, 3, 3, 4, 4]


def test_neck_skin_is_torso_for_pascal():
    assert CIHP.map_to(PASCAL)[10] == 2 and CIHP.map_to(PARTS)[10] == 2


@given(SETS, SETS)
def test_every_conversion_is_total(source: LabelSet, target: LabelSet):
    table = source.map_to(target)
    assert table.dtype == np.uint8 and table.shape == (len(source),)
    assert int(table.max()) < len(target) and table[0] == 0


@given(SETS)
def test_identity_and_json_round_trip(labels: LabelSet):
    assert labels.map_to(labels).tolist() == list(range(len(labels)))
    assert LabelSet.from_json(json.loads(json.dumps(labels.to_json()))) == labels


@given(SETS, st.integers(0, 2**32 - 1))
def test_mirroring_twice_changes_nothing(labels: LabelSet, seed: int):
    maps = np.random.default_rng(seed).integers(0, len(labels), (2, 5, 4), dtype=np.uint8)
    once = labels.mirrored(maps)
    assert once.dtype == np.uint8
    assert np.array_equal(labels.mirrored(once), maps)


def test_lists_make_the_same_set_as_tuples():
    made = LabelSet("own", ["background", "top"], [[0, 0, 0], [1, 1, 1]], [])  # pyright: ignore
    same = LabelSet("own", ("background", "top"), ((0, 0, 0), (1, 1, 1)))
    assert made == same and hash(made) == hash(same)
    assert made.map_to(same).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("names", "palette", "pairs", "told"),
    [
        (("a", "b"), ((0, 0, 0),), (), "2 names and 1 of 1 colours"),
        (("a",), ((0, 0, 256),), (), "1 names and 0 of 1 colours"),
        ("ab", ((0, 0, 0), (1, 1, 1)), (), "names 'ab'"),
        (("a", 1), ((0, 0, 0), (1, 1, 1)), (), "names .'a', 1."),
        (("a", "b"), ((0, 0, 0), (1, 1, 1)), ((0, 2),), "flip pairs"),
        (("a", "b"), ((0, 0, 0), (1, 1, 1)), ((-1, 1),), "flip pairs"),
        (("a", "b", "c"), ((0, 0, 0),) * 3, ((1, 2), (2, 0)), "no class twice"),
        ((), (), (), "0 names"),
    ],
)
def test_what_is_no_label_set(names: Any, palette: Any, pairs: Any, told: str):
    with pytest.raises(ValueError, match=told):
        LabelSet("own", names, palette, pairs)


def test_mirroring_exchanges_the_sides():
    assert LIP.mirrored(np.array([[14, 5, 19]], np.uint8)).tolist() == [[18, 5, 15]]
    assert ATR.mirrored(np.array([[9, 16]], np.uint8)).tolist() == [[16, 10]]


def test_sets_without_a_table_are_refused_in_one_line():
    garments = LabelSet("garments", ("background", "top"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(ReidpipeError, match="found label maps of 'garments'") as caught:
        garments.map_to(LIP)
    assert "\n" not in str(caught.value)
