"""Settings that vary in one ``run``."""

from __future__ import annotations

import pytest

from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe.arguments import changed_recipe, in_settings
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.short_forms import Short
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


@pytest.mark.parametrize("text", ["a", "a=", "a=1", "a=1,", "=1,2", "a=1,1", "a=0.001, 1e-3"])
def test_one_value_is_no_variation(text: str):
    with pytest.raises(ReidpipeError, match="expected KEY=A,B with two values or more"):
        read_variations([text])


def test_a_value_said_twice_is_one_row():
    assert read_variations(["a=0.001,2,1.0e-3,1e-3"]) == [("a=0.001",), ("a=2",)]


@pytest.mark.parametrize(("varied", "settings"), [(["a=1,2", "a=3,4"], []), (["a=1,2"], ["a=7"])])
def test_a_key_is_said_once(varied: list[str], settings: list[str]):
    with pytest.raises(ReidpipeError, match="each key once"):
        read_variations(varied, settings)


@pytest.mark.parametrize(
    ("varied", "settings"),
    [
        (["stages.image.epochs=8,24"], ["stages.0.epochs=3"]),
        (["stages.0.epochs=8,24"], ["stages.image.epochs=3"]),
        (["stages.00.epochs=8,24"], ["stages.image.epochs=3"]),
        (["stages.0.epochs=8,24", "stages.image.epochs=1,2"], []),
        (["stages.0.losses.00.weight=1,2", "stages.image.losses.0.weight=3,4"], []),
        # What holds a key that was set before replaces it.
        (["stages.image.optimiser={lr: 1},{lr: 2}"], ["stages.0.optimiser.lr=3"]),
        (["stages.0.optimiser.lr=1,2", "stages.image.optimiser={lr: 1},{lr: 2}"], []),
    ],
)
def test_a_key_is_one_however_it_is_typed(varied: list[str], settings: list[str]):
    recipe = load_recipe("baseline-tiny")
    with pytest.raises(ReidpipeError, match="each key once; leave one out") as told:
        read_variations(varied, settings, [recipe])
    assert f"found --vary {varied[-1]} and " in str(told.value)
    other = settings[0] if settings else varied[0].partition("=")[0]
    assert f"{'--set' if settings else '--vary'} {other} beside it" in str(told.value)


def test_keys_of_other_places_go_together():
    recipes = [load_recipe("baseline-tiny"), load_recipe("clip-reid-tiny")]
    # Of clip-reid-tiny the first stage is another one.
    varied = ["stages.1.epochs=8,24", "stages.identity-prompts.epochs=1,2"]
    assert len(read_variations(varied, ["stages.1.optimiser.lr=3"], recipes[1:])) == 4
    varied = ["stages.image.epochs=8,24", "stages.1.epochs=1,2"]
    assert len(read_variations(varied, [], recipes[:1])) == 4  # whoever loads it refuses the number
    with pytest.raises(ReidpipeError, match="each key once"):
        read_variations(varied, [], recipes)
    # A part of what is set before it is set beside it.
    varied = ["stages.image.optimiser.lr=1,2"]
    assert read_variations(varied, ["stages.0.optimiser={lr: 3}"], recipes)[1] == (
        "stages.image.optimiser.lr=2",
    )


def test_a_short_form_is_named_as_it_was_typed():
    settings = in_settings(["baseline-tiny"], (), Short(epochs=3, lr=0.5))
    recipe = changed_recipe("baseline-tiny", settings)
    typed = Short(epochs=3, lr=0.5).typed()
    with pytest.raises(ReidpipeError, match="=8,24 and --epochs 3 beside it; expected each key"):
        read_variations(["stages.image.epochs=8,24"], settings, [recipe], typed)
    with pytest.raises(ReidpipeError, match="=1,2 and --lr 0.5 beside it; expected each key"):
        read_variations(["stages.image.optimiser.lr=1,2"], settings, [recipe], typed)


def test_the_last_of_two_spellings_is_the_one_that_stays():
    settings = ("stages.0.epochs=3", "stages.image.epochs=8", "stages.0.epochs=5")
    assert changed_recipe("baseline-tiny", settings).stages[0].epochs == 5
    assert changed_recipe("baseline-tiny", settings[:2]).stages[0].epochs == 8
