"""What ``run`` and ``--set`` are given as text."""

from __future__ import annotations

import pytest

from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe.combinations import read_names, read_seeds
from reid_train.recipe.loading import load_recipe


def test_seeds_are_numbers_and_ranges_each_once():
    assert read_seeds(["0-2", "7", "1"]) == (0, 1, 2, 7)
    assert len(read_seeds(["0-999"])) == 1000


@pytest.mark.parametrize(
    "text", ["0-99999999999", "0-1000", "0-998,2000-2002", "9" * 5000, "3-1", "-1", "²", "a"]
)
def test_other_seeds_and_more_than_a_thousand_are_refused(text: str):
    with pytest.raises(ReidpipeError, match=r"found --seed .*1000 seeds at most; type --seed 0-4"):
        read_seeds([text])


def test_a_comma_in_brackets_belongs_to_its_name():
    assert read_names(["a:size=[16, 8],b", "b, c:x=1"], "--parsing") == (
        "a:size=[16, 8]", "b", "c:x=1",
    )  # fmt: skip


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
@pytest.mark.parametrize(
    "key", ["stages.0.optimiser.lr", "stages.0.losses.0.weight", "input.mean.1"]
)
def test_a_number_that_is_not_finite_is_refused_by_its_key(key: str, value: str):
    with pytest.raises(ReidpipeError, match=f"for {key}; expected: .*finite") as caught:
        load_recipe("baseline-tiny", {key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{width: .inf}", "{width: [1, {a: .nan}]}"])
def test_nor_is_one_among_free_options(text: str):
    with pytest.raises(ReidpipeError, match="for model.options; expected: finite numbers"):
        load_recipe("baseline-tiny", {"model.options": text})


def test_a_superscript_is_no_number_of_a_list():
    with pytest.raises(ReidpipeError, match="expected a number from 0"):
        load_recipe("baseline-tiny", {"stages.²": "1"})


@pytest.mark.parametrize(
    ("recipe", "key", "value"),
    [
        ("baseline-tiny", "stages.0.clip", "0"),
        ("baseline-tiny", "stages.0.clip", "-1"),
        ("baseline-tiny", "stages.0.data.augment.erase_aspect", "[0,3.3]"),
        ("baseline-tiny", "stages.0.data.augment.erase_area", "[0.4,0.02]"),
        ("baseline-tiny", "stages.0.optimiser.weight_decay", "-0.1"),
        ("bignet-plus", "stages.0.schedule.start_division", "0"),
        ("bignet-plus", "stages.0.schedule.final_division", "0"),
        ("clip-reid-vit", "stages.1.schedule.warmup_factor", "-1"),
    ],
)
def test_what_would_end_or_undo_a_training_is_told_before(recipe: str, key: str, value: str):
    with pytest.raises(ReidpipeError, match=f"for {key}.*; expected: "):
        load_recipe(recipe, {key: value})


def test_nesterov_needs_a_momentum():
    sgd = {"stages.0.optimiser": "{kind: sgd, lr: 0.1, nesterov: true, momentum: 0}"}
    with pytest.raises(ReidpipeError, match="a momentum beside nesterov"):
        load_recipe("baseline-tiny", sgd)
