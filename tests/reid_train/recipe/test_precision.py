"""What is told of a training's precision, and of its authors'."""

from __future__ import annotations

import pytest

from reid_train.recipe.loading import list_recipes, load_recipe
from reid_train.recipe.precision import Precision, of_authors

FP16 = "fp16 with a gradient scaler"


@pytest.mark.parametrize(
    ("asked", "used", "on_cpu", "authors", "told"),
    [
        ("auto", "fp32", True, FP16,
         [f"precision fp32 (auto: a CPU computes in fp32); its authors trained in {FP16}"]),
        ("auto", "bf16", False, FP16,
         ["precision bf16 (auto: the GPU has it; how far losses drift: docs/benchmarks.md); its "
          f"authors trained in {FP16}"]),
        ("auto", "fp32", False, "", ["precision fp32 (auto: the GPU has no bf16)"]),
        ("bf16", "bf16", False, "fp32", ["precision bf16; its authors trained in fp32"]),
        ("fp16", "fp16", False, FP16, []),
        ("fp32", "fp32", True, "", []),
    ],
)  # fmt: skip
def test_a_choice_is_told_and_where_the_authors_made_another(
    asked: str, used: str, on_cpu: bool, authors: str, told: list[str]
):
    assert Precision(asked, used, on_cpu, authors).lines() == told


def test_recipes_with_other_precision_than_their_authors_say_which_theirs_is():
    for name in list_recipes():
        recipe = load_recipe(name)
        if any("train in fp16 with a gradient scaler" in told for told in recipe.deviations):
            assert recipe.authors_precision == FP16, name
    assert of_authors({"name": "clip-reid-vit-from-random"}) == FP16
    assert of_authors({"name": "somebody-elses"}) == ""
    # It changes no result: neither the key nor what a worker gets knows of it.
    recipe = load_recipe("clip-reid-vit")
    assert "authors_precision" not in recipe.plain() | recipe.keyed()
