"""Recipe files as plain mappings: bases merged in, single values set."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.yaml_text import read_yaml, read_yaml_file


def packaged(folder: str) -> Traversable:
    """A folder of recipes that comes with the package."""
    return resources.files("reid_train") / folder


def names_in(folder: str) -> list[str]:
    """Names of the recipes of a packaged folder, sorted."""
    return sorted(Path(file.name).stem for file in packaged(folder).iterdir() if is_file(file.name))


def is_file(reference: str) -> bool:
    """Whether a recipe is given as a YAML file, not by name."""
    return reference.lower().endswith((".yaml", ".yml"))


def read(
    reference: str, folder: str, *, see: str, beside: Path | None = None, seen: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The mapping of a recipe, by name in a packaged folder or from a file; what ``base:`` names is
    merged in (a file beside the one that names it) but for its ``expected``, which is another
    recipe's, then ``set:`` applied. ``seen``: the recipes that led here. Raises ReidpipeError, in
    one line; ``see``: the command that lists the names.
    """
    if reference in seen:
        raise ReidpipeError(f"found recipes that are each other's base: {', '.join(seen)}")
    if is_file(reference):
        file: Any = (beside / reference) if beside else Path(reference)
    else:
        file = packaged(folder) / f"{reference}.yaml"
    if not file.is_file():
        names = names_in(folder)
        raise ReidpipeError(
            f"found recipe '{reference}'{nearest(reference, names)}; expected a .yaml file or one "
            f"of {', '.join(names)}; type {see}"
        )
    content = _named(read_yaml_file(file))
    if not isinstance(content, dict):
        raise ReidpipeError(f"found no mapping in {file}; expected the keys of a recipe")
    base, changes = content.pop("base", None), content.pop("set", {})
    if base is not None:
        parent = file.parent if is_file(reference) else None
        inherited = read(str(base), folder, see=see, beside=parent, seen=(*seen, reference))
        inherited.pop("expected", None)
        content = merged(inherited, content)
    if not isinstance(changes, dict):
        raise ReidpipeError(
            f"found set: {str(changes)[:80]} in {file}; expected PATH: VALUE for each change; "
            "correct the file"
        )
    for path, value in changes.items():
        put(content, str(path), value)
    return content


def put_text(content: dict[str, Any], path: str, text: str) -> None:
    """``put`` of a value written in YAML, as ``--set PATH=TEXT`` has it."""
    put(content, path, value_of(path, text))


def value_of(path: str, text: str) -> Any:
    """What ``TEXT`` of ``--set PATH=TEXT`` says. Raises ReidpipeError."""
    try:
        return _named(read_yaml(text))
    except yaml.YAMLError as error:
        raise ReidpipeError(
            f"found {path}={text}; expected a YAML value; type --set {path}=VALUE"
        ) from error


def _named(value: Any) -> Any:
    """``value`` with the key ``on`` restored: YAML 1.1 reads a bare ``on:`` as true."""
    if isinstance(value, dict):
        return {"on" if key is True else key: _named(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item) for item in value]
    return value


def merged(base: Any, over: Any) -> Any:
    """``over`` on ``base``: mappings key by key, anything else replaced."""
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


def place_of(content: dict[str, Any], path: str) -> tuple[str, ...]:
    """The one form of a dotted path, with members of lists by number however they are typed (by
    name, ``00``). What ``content`` does not have is as it is typed.
    """
    found: list[str] = []
    place: Any = content
    for part in path.split("."):
        if isinstance(place, list):
            try:
                number = _position(place, part, path)
            except ReidpipeError:
                number = None
            found.append(part if number is None else str(number))
            place = None if number is None else place[number]
        else:
            found.append(part)
            place = place.get(part) if isinstance(place, dict) else None
    return tuple(found)


def _step(place: Any, part: str, path: str) -> Any:
    key: Any = _position(place, part, path) if isinstance(place, list) else part
    inside = place[key] if isinstance(place, list) else place.get(part)
    if not isinstance(inside, dict | list):
        inside = place[key] = {}
    return inside


def _position(items: list[Any], part: str, path: str) -> int:
    names = [item.get("name") for item in items if isinstance(item, dict)]
    if part in names:
        return names.index(part)
    number = part.isascii() and part.isdecimal() and len(part) < 10
    if not number or int(part) >= len(items):
        raise ReidpipeError(
            f"found '{path}'; expected a number from 0 to {len(items) - 1}"
            f"{' or a name' if any(names) else ''} in place of '{part}'; type one"
        )
    return int(part)
