"""Recipes: how a method is trained, as typed data. Importing this needs no torch.

A recipe file is YAML. ``base: other`` starts from another recipe (a name, or a file beside this
one); mappings are merged, lists replaced, and ``set: {"stages.0.epochs": 3}`` changes single
values, as ``--set stages.0.epochs=3`` does on the command line.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import ValidationError

from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.recipe import files
from reid_train.recipe.checks import check_names
from reid_train.recipe.schema import Part, Recipe
from reid_train.recipe.short_forms import check_meant, in_full

FOLDER = "recipe/published"


def from_plain(value: Mapping[str, Any]) -> Recipe:
    """A recipe from its ``plain`` form."""
    return _validated(dict(value), str(value.get("name", "recipe")))


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    return files.names_in(FOLDER)


def label_free_recipes() -> list[str]:
    """Names of the recipes that come with the package and train without identities, sorted."""
    return [name for name in list_recipes() if load_recipe(name).label_free]


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, str] | None = None) -> Recipe:
    """A recipe by name or from a YAML file, with single values replaced.

    overrides: dotted path -> YAML text, e.g. ``{"stages.0.epochs": "3"}``; stages may be addressed
    by name. Raises ReidpipeError, in one line, for an unknown recipe, key, value or name of a part.
    """
    given = str(name_or_path)
    name = Path(given).stem if files.is_file(given) else given
    content = files.read(given, FOLDER, see="reidpipe recipes")
    return _changed({"name": name, **content}, name, overrides or {})


def changed(recipe: Recipe, overrides: Mapping[str, str]) -> Recipe:
    """A recipe with single values replaced, as ``load_recipe`` replaces those of one by name."""
    return _changed(recipe.model_dump(mode="json"), recipe.name, overrides)


def _changed(content: dict[str, Any], name: str, overrides: Mapping[str, str]) -> Recipe:
    for path, text in overrides.items():
        if not in_full(path, content):
            check_meant(_validated(content, name), path, text)
        files.put_text(content, path, text)
    recipe = _validated(content, name)
    check_names(recipe)
    return recipe


def _validated(content: dict[str, Any], name: str) -> Recipe:
    check_keys(Recipe, content, "", name)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise wrong_value(error, content, name) from error


def wrong_value(error: ValidationError, content: Mapping[str, Any], name: str) -> ReidpipeError:
    """What is told of the first value that ``content``, a recipe's, should not have."""
    first = error.errors()[0]
    path = ".".join(_typed(content, first))
    found = "no value" if first["type"] == "missing" else repr(first["input"])[:80]
    message = first["msg"].removeprefix("Value error, ")
    if not path:
        return ReidpipeError(
            f"recipe '{name}': found parts that do not fit together; expected: {message}; change "
            f"that in the recipe (reidpipe recipes {name} shows it)"
        )
    return ReidpipeError(
        f"recipe '{name}': found {found} for {path}; expected: {message}; type --set {path}=VALUE"
    )


def _typed(content: Any, error: Mapping[str, Any]) -> list[str]:
    """The path that a user types to an error of pydantic's, whose location has tags of unions."""
    path = []
    for part in error["loc"]:
        if isinstance(content, list | tuple):
            inside = isinstance(part, int) and part < len(content)
        else:
            inside = isinstance(content, Mapping) and part in content
        if inside:
            content = content[part]
        elif error["type"] != "missing" or part != error["loc"][-1]:
            continue
        path.append(str(part))
    return path


def check_keys(kind: Any, value: Any, path: str, name: str) -> None:
    """Raise for a key that no part has, naming the nearest one that exists. Values are checked by
    pydantic afterwards, which cannot say what a misspelt key was meant to be.
    """
    arguments = typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Part):
        if not isinstance(value, dict):
            return
        for key in value:
            if key not in kind.model_fields:
                prefix = f"{path}." if path else ""
                near = nearest(str(key), kind.model_fields).replace("'", f"'{prefix}", 1)
                raise ReidpipeError(
                    f"recipe '{name}': found unknown key '{prefix}{key}'{near}; expected one of "
                    f"{', '.join(kind.model_fields)}; type reidpipe recipes NAME to see a whole one"
                )
        hints = _hints(kind)
        for key, item in value.items():
            check_keys(hints[key], item, f"{path}.{key}" if path else str(key), name)
    elif isinstance(value, list | tuple) and arguments and typing.get_origin(kind) is tuple:
        for index, item in enumerate(value):
            check_keys(arguments[0], item, f"{path}.{index}", name)
    elif isinstance(value, dict) and typing.get_origin(kind) is dict:
        for key, item in value.items():
            check_keys(arguments[1], item, f"{path}.{key}", name)
    elif typing.get_origin(kind) is Annotated:
        check_keys(arguments[0], value, path, name)
    elif typing.get_origin(kind) in (typing.Union, types.UnionType) and isinstance(value, dict):
        check_keys(_alternative(arguments, value), value, path, name)


@cache
def _hints(kind: type[Part]) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _alternative(kinds: tuple[Any, ...], value: dict[str, Any]) -> Any:
    """The member of a union whose ``kind`` the value has; None leaves the refusal to pydantic."""
    for member in kinds:
        kind = typing.get_args(member)[0] if typing.get_origin(member) is Annotated else member
        if isinstance(kind, type) and issubclass(kind, Part) and "kind" in kind.model_fields:
            literal = _hints(kind)["kind"]
            if value.get("kind") in typing.get_args(literal):
                return kind
    return None
