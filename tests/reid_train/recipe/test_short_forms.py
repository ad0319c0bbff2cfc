"""``--epochs``, ``--batch``, ``--lr`` and keys that were not typed in full."""

from __future__ import annotations

import pytest

from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe.arguments import changed_recipe, in_settings
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.short_forms import Short

SHORT = Short(epochs=3, batch=32, lr=1e-5)


def test_they_are_the_settings_they_stand_for():
    recipe = load_recipe("baseline-tiny")
    settings = SHORT.settings(recipe)
    assert settings == ("stages.0.epochs=3", "stages.0.data.ids=8", "stages.0.optimiser.lr=1e-05")
    said = changed_recipe("baseline-tiny", settings)
    set_ = ("stages.image.epochs=3", "stages.image.data.ids=8", "stages.image.optimiser.lr=0.00001")
    assert said == changed_recipe("baseline-tiny", set_)
    assert said.keyed() == changed_recipe("baseline-tiny", set_).keyed()
    assert Short().settings(recipe) == ()


def test_a_batch_of_shuffled_images_is_its_number():
    assert Short(batch=48).settings(load_recipe("bignet")) == ("stages.0.data.batch=48",)


@pytest.mark.parametrize(
    ("short", "key"),
    [
        (Short(epochs=5), "stages.image.epochs=5"),
        (Short(batch=64), "stages.image.data.ids=16"),
        (Short(lr=0.01), "stages.image.optimiser.lr=0.01"),
    ],
)
def test_several_stages_are_named_in_full(short: Short, key: str):
    with pytest.raises(ReidpipeError) as error:
        short.settings(load_recipe("pi-vl-tiny"))
    text = str(error.value)
    assert "for pi-vl-tiny, which has 3 stages that take it" in text and f"type --set {key}" in text
    assert "stages.identity-prompts." in text and "stages.part-prompts." in text
    assert "\n" not in text


def test_no_whole_number_of_identities():
    with pytest.raises(ReidpipeError, match="found --batch 33 .* 4 images .*type --batch 32"):
        Short(batch=33).settings(load_recipe("baseline-tiny"))
    with pytest.raises(ReidpipeError, match="type --batch 4"):
        Short(batch=3).settings(load_recipe("baseline-tiny"))


@pytest.mark.parametrize("key", ["stages.0.epochs", "stages.00.epochs", "stages.image.epochs"])
def test_said_twice(key: str):
    with pytest.raises(ReidpipeError, match=f"found --epochs 3 and --set {key}=4.*leave one out"):
        in_settings(["baseline-tiny"], (f"{key}=4",), Short(epochs=3))


def test_several_recipes_must_mean_the_same():
    short = Short(epochs=3, lr=0.1)
    assert in_settings(["baseline-tiny", "slicenet1"], (), short) == short.settings(
        load_recipe("baseline-tiny")
    )
    with pytest.raises(ReidpipeError, match="data.ids=8 for baseline-tiny and .*batch=32 for bign"):
        in_settings(["baseline-tiny", "bignet"], (), Short(batch=32))


def test_what_a_setting_changed_counts():
    """The images of each identity are those that were set."""
    given = ("stages.image.data.images_per_id=2",)
    assert in_settings(["baseline-tiny"], given, Short(batch=32)) == (
        *given,
        "stages.0.data.ids=16",
    )


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("epochs", ["identity-prompts.epochs", "part-prompts.epochs", "image.epochs"]),
        ("stages.epochs", ["identity-prompts.epochs", "image.epochs"]),
        ("image.epochs", ["image.epochs"]),
        ("image.lr", ["image.optimiser.lr"]),
        ("optimiser.lr", ["identity-prompts.optimiser.lr", "image.optimiser.lr"]),
    ],
)
def test_a_key_not_typed_in_full(typed: str, keys: list[str]):
    with pytest.raises(ReidpipeError) as error:
        load_recipe("pi-vl-tiny", {typed: "5"})
    text = str(error.value)
    assert text.startswith(f"found --set {typed}=5 for pi-vl-tiny; expected a key in full; type ")
    assert all(f"stages.{key}" in text for key in keys) and "\n" not in text


def test_a_key_that_means_nothing_is_told_as_before():
    with pytest.raises(ReidpipeError, match="unknown key 'seed'"):
        load_recipe("baseline-tiny", {"seed": "1"})
    with pytest.raises(ReidpipeError, match="did you mean 'stages.0.epochs'"):
        load_recipe("baseline-tiny", {"stages.0.epoch": "1"})
    assert load_recipe("baseline-tiny", {"input.size": "[64, 32]"}).input.size == (64, 32)
