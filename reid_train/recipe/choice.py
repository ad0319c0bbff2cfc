"""Which recipe suits which number of people and which machine: the rows of ``recipes --for``."""

from __future__ import annotations

from typing import Any

from reid_train.recipe.loading import list_recipes, load_recipe
from reid_train.recipe.schema import Recipe

COLUMNS = ("recipe", "people", "machine", "start", "about")


def rows_for(kind: str) -> list[dict[str, Any]]:
    """The recipes for a kind of images (``Suits.kinds``), those that want fewer people first.

    people: identities to train on, ``16-500`` or ``200+``. start: the weights it starts from, of
    the teacher where it has one, or what to type so that it does.
    """
    found = [(name, load_recipe(name)) for name in list_recipes()]
    suited = [(name, recipe) for name, recipe in found if kind in _kinds(recipe)]
    suited.sort(key=lambda item: (_people(item[1])[0], item[0]))
    return [_row(name, recipe) for name, recipe in suited]


def _kinds(recipe: Recipe) -> tuple[str, ...]:
    return recipe.suits.kinds if recipe.suits is not None else ()


def _people(recipe: Recipe) -> tuple[int, int | None]:
    assert recipe.suits is not None and recipe.suits.people is not None
    return recipe.suits.people


def _row(name: str, recipe: Recipe) -> dict[str, Any]:
    assert recipe.suits is not None
    least, most = _people(recipe)
    given = (recipe.model.teacher or recipe.model).pretrained
    start = "random" if given == "none" else given
    return {
        "recipe": name,
        "people": f"{least}-{most}" if most else f"{least}+",
        "machine": recipe.suits.machine,
        "start": f"--pretrained {recipe.suits.start}" if recipe.suits.start else start,
        "about": recipe.summary,
    }
