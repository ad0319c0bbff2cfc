"""Recipes: how a method is trained, as typed data. Importing this needs no torch.

A recipe file is YAML. ``base: other`` starts from another recipe (a name, or a file beside this
one); mappings are merged, lists replaced, and ``set: {"stages.0.epochs": 3}`` changes single
values, as ``--set stages.0.epochs=3`` does on the command line.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import ValidationError

from pipeline.errors import ReidpipeError, nearest
from reid_train.recipe_parts import DATA_KINDS, Part, Recipe


def from_plain(value: Mapping[str, Any]) -> Recipe:
    """A recipe from its ``plain`` form."""
    return _validated(dict(value), str(value.get("name", "recipe")))


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    return sorted(Path(entry.name).stem for entry in _folder().iterdir() if _is_yaml(entry.name))


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, str] | None = None) -> Recipe:
    """A recipe by name or from a YAML file, with single values replaced.

    overrides: dotted path -> YAML text, e.g. ``{"stages.0.epochs": "3"}``; stages may be addressed
    by name. Raises ReidpipeError, in one line, for an unknown recipe, key or value.
    """
    name = Path(name_or_path).stem if _is_yaml(str(name_or_path)) else str(name_or_path)
    content = _read(str(name_or_path), None, ())
    for path, text in (overrides or {}).items():
        try:
            value = _named(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ReidpipeError(
                f"found {path}={text}; expected a YAML value; type --set {path}=VALUE"
            ) from error
        put(content, path, value)
    return _validated({"name": name, **content}, name)


def _folder() -> Any:
    return resources.files("reid_train") / "recipes"


def _is_yaml(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _read(reference: str, beside: Path | None, seen: tuple[str, ...]) -> dict[str, Any]:
    """The mapping of a recipe file with its bases merged in."""
    if reference in seen:
        raise ReidpipeError(f"found recipes that are each other's base: {', '.join(seen)}")
    if _is_yaml(reference):
        file: Any = (beside / reference) if beside else Path(reference)
    else:
        file = _folder() / f"{reference}.yaml"
    if not file.is_file():
        names = list_recipes()
        raise ReidpipeError(
            f"found recipe '{reference}'{nearest(reference, names)}; expected a .yaml file or one "
            f"of {', '.join(names)}; type reidpipe recipes"
        )
    try:
        content = _named(yaml.safe_load(file.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ReidpipeError(f"found YAML that cannot be read in {file}: {reason}") from error
    if not isinstance(content, dict):
        raise ReidpipeError(f"found no mapping in {file}; expected the keys of a recipe")
    base, changes = content.pop("base", None), content.pop("set", {})
    if base is not None:
        parent = file.parent if _is_yaml(reference) else None
        content = merged(_read(str(base), parent, (*seen, reference)), content)
    for path, value in changes.items():
        put(content, path, value)
    return content


def _named(value: Any) -> Any:
    """``value`` with the key ``on`` restored: YAML 1.1 reads a bare ``on:`` as true."""
    if isinstance(value, dict):
        return {"on" if key is True else key: _named(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item) for item in value]
    return value


def merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    # Another kind of schedule or data has other keys: nothing of the base's is kept.
    if "kind" in over and over["kind"] != base.get("kind"):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def put(content: dict[str, Any], path: str, value: Any) -> None:
    """Set one value by its dotted path; levels that are not there yet are made, and the number
    after a list's last adds to it."""
    *parents, last = path.split(".")
    place: Any = content
    for depth, part in enumerate(parents):
        place = _step(place, part, ".".join(parents[: depth + 1]))
    if isinstance(place, list):
        if last == str(len(place)):
            place.append(value)
        else:
            place[_position(place, last, path)] = value
    else:
        place[last] = value


def _step(place: Any, part: str, path: str) -> Any:
    if isinstance(place, list):
        return place[_position(place, part, path)]
    if not isinstance(place.get(part), dict | list):
        place[part] = {}
    return place[part]


def _position(items: list[Any], part: str, path: str) -> int:
    names = [item.get("name") for item in items if isinstance(item, dict)]
    if part in names:
        return names.index(part)
    if not part.isdigit() or int(part) >= len(items):
        raise ReidpipeError(
            f"found '{path}'; expected a number from 0 to {len(items) - 1}"
            f"{' or a name' if any(names) else ''} in place of '{part}'"
        )
    return int(part)


def _validated(content: dict[str, Any], name: str) -> Recipe:
    check_keys(Recipe, content, "", name)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        # The tag of a union is in the location, but not in the path a user types.
        tags = {*DATA_KINDS, *_SCHEDULE_KINDS}
        path = ".".join(str(part) for part in first["loc"] if part not in tags) or "recipe"
        found = "no value" if first["type"] == "missing" else repr(first["input"])[:80]
        message = first["msg"].removeprefix("Value error, ")
        raise ReidpipeError(
            f"recipe '{name}': found {found} for {path}; expected: {message}; "
            f"type --set {path}=VALUE"
        ) from error


_SCHEDULE_KINDS = ("constant", "warmup-multistep", "cosine", "one-cycle")


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


def _hints(kind: type[Part]) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _alternative(kinds: tuple[Any, ...], value: dict[str, Any]) -> Any:
    """The member of a union whose ``kind`` the value has; None leaves the refusal to pydantic."""
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Part) and "kind" in kind.model_fields:
            literal = _hints(kind)["kind"]
            if value.get("kind") in typing.get_args(literal):
                return kind
    return None
