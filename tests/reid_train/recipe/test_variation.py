"""Settings that vary in one ``run``."""

from __future__ import annotations

import pytest

from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe.variation import read_variations


def test_values_are_combined_in_the_order_typed():
    assert read_variations(["a.b=1,2", "c=x, y,x"]) == [
        ("a.b=1", "c=x"), ("a.b=1", "c=y"), ("a.b=2", "c=x"), ("a.b=2", "c=y"),
    ]  # fmt: skip
    assert read_variations([]) == [()]


def test_lists_and_mappings_stay_whole():
    assert read_variations(["size=[128, 64],[256,128]"]) == [
        ("size=[128, 64]",),
        ("size=[256,128]",),
    ]
    found = read_variations(["options={a: 1, b: [2, 3]},null"])
    assert found == [("options={a: 1, b: [2, 3]}",), ("options=null",)]


@pytest.mark.parametrize("text", ["a", "a=", "a=1", "a=1,", "=1,2", "a=1,1"])
def test_one_value_is_no_variation(text: str):
    with pytest.raises(ReidpipeError, match="expected KEY=A,B with two values or more"):
        read_variations([text])


@pytest.mark.parametrize(("varied", "settings"), [(["a=1,2", "a=3,4"], []), (["a=1,2"], ["a=7"])])
def test_a_key_is_said_once(varied: list[str], settings: list[str]):
    with pytest.raises(ReidpipeError, match="each key once"):
        read_variations(varied, settings)
