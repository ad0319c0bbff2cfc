"""A recipe that begins with random weights where its paper begins with published ones: another
experiment, which is told by its name.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from reid_train.recipe.schema import Recipe

SUFFIX = "-from-random"
PUBLISHED = ("openai", "imagenet")


def named(recipe: Recipe, start: str) -> Recipe:
    """``recipe`` as it is called when it starts from ``start``; the name is in no key."""
    if start != "none" or recipe.model.pretrained not in PUBLISHED:
        return recipe
    return recipe.model_copy(update={"name": f"{recipe.name}{SUFFIX}"})


def published(name: str) -> str:
    """The recipe that was named so."""
    return name.removesuffix(SUFFIX)


def warnings(workspace: Workspace, models: Iterable[Step]) -> list[str]:
    """What is said before such trainings, once for each recipe that has something to train."""
    named_so = {
        recipe["name"]: recipe["model"]["pretrained"]
        for step in models
        if not workspace.complete(step)
        and (recipe := step.params["recipe"])["name"].endswith(SUFFIX)
    }
    return [
        f"recipe '{published(name)}' begins with the weights of {start}, and here with random ones "
        f"(--pretrained none): another experiment than the published one, called {name}"
        for name, start in named_so.items()
    ]
