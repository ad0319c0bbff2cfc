"""Whom a recipe suits: every published one says it, and it is in no key."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml

from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe import commands, steps
from reid_train.recipe.choice import rows_for
from reid_train.recipe.loading import list_recipes, load_recipe
from reid_train.recipe.schema import Recipe, Suits


@pytest.mark.parametrize("name", list_recipes())
def test_every_published_recipe_says_whom_it_suits(name: str):
    recipe = load_recipe(name)
    assert recipe.suits is not None
    # Nothing of a base is left where it does not hold.
    clusters = any(stage.clusters for stage in recipe.stages)
    assert ("label-free" in recipe.suits.kinds) == clusters
    if recipe.suits.kinds:
        # With a number of iterations a batch of fewer identities is smaller, without it is refused.
        data = [s.data for s in recipe.image_stages if getattr(s.data, "iterations", 1) is None]
        least = max([getattr(d, "ids", 2) for d in data], default=2)
        assert recipe.suits.people is not None and recipe.suits.people[0] >= least
    if recipe.suits.start:
        assert recipe.model.pretrained == "none"
    if "vehicle" in name or name.endswith("-veri"):
        assert recipe.suits.kinds == ("benchmark",)


def test_what_is_told_is_in_no_key(tmp_path: Path):
    file = tmp_path / "my.yaml"
    suits = {"kinds": ["own"], "people": [2, 3], "machine": "an abacus"}
    file.write_text(yaml.safe_dump({"base": "baseline-tiny", "suits": suits}))
    mine, theirs = load_recipe(file), load_recipe("baseline-tiny")
    assert mine.suits != theirs.suits and mine.suits is not None and mine.suits.people == (2, 3)
    keys = {steps.model(Step("index", {}), recipe, seed=0).key for recipe in (mine, theirs)}
    assert len(keys) == 1 and "suits" not in mine.plain()


def test_kinds_are_the_options():
    assert get_args(get_args(Suits.model_fields["kinds"].annotation)[0]) == commands.KINDS


@pytest.mark.parametrize(
    "suits",
    [
        {},
        {"kinds": ["own"]},
        {"kinds": ["own"], "people": [2, None], "machine": "any", "why_not": "none"},
        {"kinds": ["mine"], "people": [2, None], "machine": "any"},
        {"why_not": "none", "peeple": [1, 2]},
    ],
)
def test_half_a_statement_is_refused(suits: dict, tmp_path: Path):
    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump({"base": "slicenet2", "suits": None}))
    content = load_recipe(file).model_dump(mode="json")
    assert content["suits"] is None
    file.write_text(yaml.safe_dump({**content, "suits": suits}))
    with pytest.raises(ReidpipeError, match="suits") as caught:
        load_recipe(file)
    assert "\n" not in str(caught.value)


def test_rows_are_the_recipes_of_a_kind_with_fewer_people_first():
    rows = rows_for("own")
    assert [row["recipe"] for row in rows][0].startswith("baseline-")
    least = [int(row["people"].rstrip("+").partition("-")[0]) for row in rows]
    assert least == sorted(least)
    names = {row["recipe"] for row in rows}
    assert {"baseline-tiny", "slicenet2-plus", "baseline-rn50"} <= names
    assert not names & {"pi-vl-tiny", "pcl-clip-usl", "bignet"}
    starts = {row["recipe"]: row["start"] for row in rows_for("benchmark")}
    assert starts["resnet50-circle"] == "imagenet" and starts["bignet"] == "random"
    assert starts["distill-mobilenet-pi-vl"] == starts["clip-reid-vit"] == "openai"
    assert {row["recipe"] for row in rows_for("label-free")} == {
        name for name in list_recipes() if "-usl" in name
    }


def test_a_file_may_say_nothing():
    assert Recipe.model_fields["suits"].default is None
