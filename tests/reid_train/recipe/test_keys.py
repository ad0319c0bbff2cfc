"""One key, one result: no order of a dictionary, no name and no default is in a key, and equal keys
give equal bytes.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipeline.artifacts.steps import Job, Step, in_order
from pipeline.datasets.index import Index, write_index
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine import loop
from reid_train.recipe import steps, work
from reid_train.recipe.assembly import build_task
from reid_train.recipe.loading import from_plain, list_recipes, load_recipe
from reid_train.recipe.schema import Recipe, Stage
from tests.reid_train.people import people

# Several heads, options and patterns: whatever order could be mistaken for a meaning.
TWO_HEADS = {
    "stages.0.epochs": "2",
    "stages.0.data.ids": "4",
    "stages.0.data.images_per_id": "2",
    "input.size": "[64, 32]",
    "model.heads.zebra": "{kind: cosine, on: global}",
    "model.heads.alpha": "{kind: bnneck, on: embedding, options: {std: 0.01, frozen_bias: true}}",
    "stages.0.losses.2": "{loss: cosface, on: zebra, options: {scale: 8, margin: 0.2}}",
    "stages.0.losses.3": "{loss: cross-entropy, on: alpha}",
}


def shuffled(value: Any, rng: random.Random) -> Any:
    """``value`` with every dictionary in it in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(item, rng)) for key, item in value.items()]
        rng.shuffle(items)
        return dict(items)
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


def reversed_dictionaries(value: Any) -> Any:
    """``value`` with every dictionary in it the other way round."""
    if isinstance(value, dict):
        return {key: reversed_dictionaries(value[key]) for key in reversed(value)}
    return [reversed_dictionaries(item) for item in value] if isinstance(value, list) else value


def model_of(recipe: Recipe) -> Step:
    maps = Step("maps", {}) if recipe.reads_maps else None
    return steps.model(Step("index", {}), recipe, seed=0, label_maps=maps)


def keys_below(step: Step) -> dict[str, str]:
    found = {step.name: step.key}
    for source in step.inputs.values():
        found |= keys_below(source)
    return found


@pytest.mark.parametrize("name", list_recipes())
def test_every_dictionary_of_every_recipe_may_be_in_any_order(name: str):
    recipe = load_recipe(name)
    content = recipe.model_dump(mode="json")
    keys = keys_below(model_of(recipe))
    with torch.device("meta"):  # names and order of all weights, without their numbers
        weights = list(_task(recipe).state_dict())
    for seed in range(5):
        other = Recipe.model_validate(shuffled(content, random.Random(seed)))
        step = model_of(other)
        assert keys_below(step) == keys
        assert json.dumps(in_order(step.params)) == json.dumps(in_order(model_of(recipe).params))
    with torch.device("meta"):
        assert list(_task(other).state_dict()) == weights


def _task(recipe: Recipe) -> torch.nn.Module:
    heads = {k: h for k, h in recipe.model.heads.items() if h.kind not in ("text-rows",)}
    options = {k: 2 if v == "dataset" else v for k, v in recipe.model.options.items()}
    update = {"heads": {}, "options": options, "text": None, "teacher": None}
    if recipe.model.text is None:
        update["heads"] = heads
    stages = tuple(
        stage.model_copy(update={"losses": ()}) if recipe.model.text else stage
        for stage in recipe.image_stages
    )
    model = recipe.model.model_copy(update=update)
    return build_task(recipe.model_copy(update={"model": model, "stages": stages}), classes=2)


SMALL = ("baseline-tiny", "pcl-clip-tiny", "slicenet2", "bignet")


@pytest.mark.parametrize("name", [*SMALL, "two heads"])
def test_equal_keys_give_equal_first_weights(name: str):
    recipe = load_recipe("baseline-tiny", TWO_HEADS) if name == "two heads" else load_recipe(name)
    other = Recipe.model_validate(reversed_dictionaries(recipe.model_dump(mode="json")))
    assert model_of(recipe).key == model_of(other).key
    first, second = (build_task(each, classes=5).state_dict() for each in (recipe, other))
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_head_draws_from_its_own_name():
    one = load_recipe("baseline-tiny", TWO_HEADS)
    fewer = {k: v for k, v in TWO_HEADS.items() if "alpha" not in k + v}
    other = load_recipe("baseline-tiny", fewer)
    first, second = (build_task(each, classes=5).state_dict() for each in (one, other))
    assert all(torch.equal(second[key], first[key]) for key in second)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    _, rows, _ = people(folder, size=(64, 32))
    write_index(folder, Index("crowd", folder, rows))
    return folder


def job_of(params: dict[str, Any], inputs: Path, folder: Path) -> Job:
    folder.mkdir(exist_ok=True)
    given = {"seed": 0, "pretrained": "none", **params}
    return Job(folder, given, {"index": inputs, "images": inputs}, folder.parent, device="cpu")


def test_a_model_made_again_from_sorted_parameters_is_the_same(tmp_path: Path, inputs: Path):
    """As from a ``run.json``, whose writer sorts."""
    plain = load_recipe("baseline-tiny", TWO_HEADS).plain()
    assert list(plain["model"]["heads"]) != sorted(plain["model"]["heads"])
    for name, recipe in (("asked", plain), ("again", in_order(plain))):
        work.model(job_of({"recipe": recipe}, inputs, tmp_path / name))
    first, second = (tmp_path / name / "model.safetensors" for name in ("asked", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_a_training_resumed_from_sorted_parameters_ends_the_same(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
):
    """The optimiser's state is by position: in another order it once ended in a segmentation
    fault."""
    plain = load_recipe("baseline-tiny", TWO_HEADS).plain()
    work.model(job_of({"recipe": plain}, inputs, tmp_path / "whole"))
    original = loop.save_state

    def stop(path: Path, state: dict[str, Any]) -> None:
        original(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop)
    with pytest.raises(KeyboardInterrupt):
        work.model(job_of({"recipe": plain}, inputs, tmp_path / "parts"))
    monkeypatch.setattr(loop, "save_state", original)
    work.model(job_of({"recipe": in_order(plain)}, inputs, tmp_path / "parts"))
    whole, parts = (tmp_path / name / "model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_a_state_of_other_parameters_is_refused(tmp_path: Path, inputs: Path, monkeypatch):
    recipe = load_recipe("baseline-tiny", TWO_HEADS)
    original = loop.save_state

    def stop(path: Path, state: dict[str, Any]) -> None:
        original(path, {**state, "trained": state["trained"][::-1]})
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", stop)
    with pytest.raises(KeyboardInterrupt):
        work.model(job_of({"recipe": recipe.plain()}, inputs, tmp_path / "run"))
    monkeypatch.setattr(loop, "save_state", original)
    with pytest.raises(ReidpipeError, match="state of other parameters.*type rm "):
        work.model(job_of({"recipe": recipe.plain()}, inputs, tmp_path / "run"))


FROZEN = "model.trunk.stem.*"


def test_two_orders_of_patterns_are_two_keys_and_a_mapping_has_none():
    """In a list the last match decides; in a mapping the longer pattern does."""
    lists = [
        f"[['*', 1.0], ['{FROZEN}', 0.0]]",
        f"[['{FROZEN}', 0.0], ['*', 1.0]]",
    ]
    mappings = [f"{{'*': 1.0, '{FROZEN}': 0.0}}", f"{{'{FROZEN}': 0.0, '*': 1.0}}"]
    recipes = [load_recipe("baseline-tiny", {"stages.0.trains": t}) for t in lists + mappings]
    keys = [model_of(recipe).key for recipe in recipes]
    assert keys[0] != keys[1]
    assert keys[2] == keys[3] == keys[0]
    assert recipes[3].stages[0].trains == (("*", 1.0), (FROZEN, 0.0))
    with pytest.raises(ReidpipeError, match="trains"):
        load_recipe("baseline-tiny", {"stages.0.trains": "[['*']]"})


def test_a_recipe_s_name_and_what_is_told_are_in_no_key(tmp_path: Path):
    file = tmp_path / "my.yaml"
    told = {"summary": "mine", "citation": ["me"], "deviations": ["none that matters"]}
    file.write_text(yaml.safe_dump({"base": "baseline-tiny", **told}))
    mine, theirs = load_recipe(file), load_recipe("baseline-tiny")
    assert mine.name == "my" and mine.deviations
    assert model_of(mine).key == model_of(theirs).key
    assert model_of(mine).params["recipe"]["name"] == "my"


def test_a_field_at_its_default_is_in_no_key():
    recipe = load_recipe("baseline-tiny")
    typed = {"stages.0.accumulate": "1", "precision": str(recipe.precision), "test.flip": "false"}
    assert model_of(load_recipe("baseline-tiny", typed)).key == model_of(recipe).key

    class Later(Stage):
        novel: int = 3

    stage = recipe.stages[0]
    later = Later.model_validate(stage.model_dump())
    assert later.keyed() == stage.keyed()
    assert "accumulate" not in stage.keyed() and "epochs" in stage.keyed()
    other = load_recipe("baseline-tiny", {"stages.0.accumulate": "2"})
    assert model_of(other).key != model_of(recipe).key


@pytest.mark.parametrize("name", list_recipes())
def test_what_a_key_says_gives_the_recipe_back(name: str):
    """So nothing that decides a result is missing from it."""
    recipe = load_recipe(name)
    again = from_plain({"name": name, **recipe.keyed()})
    assert again.plain() == recipe.plain()
