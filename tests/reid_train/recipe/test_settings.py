"""The command that trains a recipe again, from what a model says of it."""

from __future__ import annotations

import shlex

from pipeline.artifacts import requests
from pipeline.artifacts.epochs import step_of
from reid_train.recipe import steps
from reid_train.recipe.arguments import setting
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.settings import continue_command, settings, train_command


def test_the_command_gives_the_recipe_again():
    typed = {
        "stages.image.epochs": "7",
        "stages.identity-prompts.optimiser.lr": "0.5",
        "model.options": "{positions: coordinates}",
        "test.flip": "true",
    }
    used = load_recipe("pi-vl-tiny", typed).plain()
    line = train_command(used, "folder:a b", 3)
    assert line is not None
    words = shlex.split(line)
    head = ["reidpipe", "train", "pi-vl-tiny", "--dataset", "folder:a b", "--seed", "3"]
    assert words[:7] == head and words[7::2] == ["--set"] * len(typed)
    again = load_recipe("pi-vl-tiny", dict(setting(word) for word in words[8::2]))
    assert again.plain() == used


def test_what_a_model_does_not_hold_is_not_compared():
    whole = load_recipe("pi-vl-tiny").plain()
    part = {**whole, "stages": [s for s in whole["stages"] if s["name"] == "image"]}
    part["model"] = {**part["model"], "teacher": None}
    assert train_command(part, "mannequins", 0) == (
        "reidpipe train pi-vl-tiny --dataset mannequins --seed 0"
    )
    assert list(settings({"a": 1, "new": 2}, {"a": 1})) == []
    assert list(settings({"a": {"b": [1]}}, {"a": {"b": [2]}})) == [("a.b", "[1]")]


def test_a_model_that_goes_on_has_the_command_that_did():
    index = requests.index("folder:a b", {})
    recipe = load_recipe("baseline-tiny", {"test.flip": "true"})
    first = steps.model(index, recipe, seed=3)
    shorter = load_recipe("baseline-tiny", {"test.flip": "true", "stages.image.epochs": "7"})
    name = f"baseline-tiny-folder_a b-s3-{first.key[:6]}"
    for start, called in ((first, name), (step_of(first, 4), f"{name}@4")):
        line = continue_command(shorter.plain(), start, "folder:a b", 5)
        assert shlex.split(line) == [
            "reidpipe", "train", "--continue", called, "--dataset", "folder:a b", "--seed", "5",
            "--set", "stages.image.epochs=7",
        ]  # fmt: skip
        # Its page is another than before; nobody else's is.
        further = steps.continuation(start, shorter, first.inputs, seed=5)
        evaluations = [
            requests.evaluation(model, index, protocol="standard", exclude="none")
            for model in (first, further, step_of(further, 1))
        ]
        usual = {"title": "t", "evaluations": 1}
        assert [requests.report("t", [step]).params for step in evaluations] == [
            usual,
            {**usual, "trained_by": "continue"},
            {**usual, "trained_by": "continue"},
        ]


def test_a_recipe_of_one_s_own_has_no_such_command():
    assert train_command({**load_recipe("baseline-tiny").plain(), "name": "mine"}, "d", 0) is None
