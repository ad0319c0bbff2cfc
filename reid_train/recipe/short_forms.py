"""Short forms of ``--set``: ``--epochs``, ``--batch`` and ``--lr``, and keys that were not typed in
full. Both mean the one key of a recipe that can be meant; where there are several they are named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe.files import place_of
from reid_train.recipe.schema import Recipe, Stage
from reid_train.recipe.schema.stage import IdentityBatches

MOST_KEYS = 4


@dataclass(frozen=True)
class Short:
    """What was typed of ``--epochs N``, ``--batch N`` (images in a global batch) and ``--lr X``."""

    epochs: int | None = None
    batch: int | None = None
    lr: float | None = None

    def settings(self, recipe: Recipe, given: Sequence[str] = ()) -> tuple[str, ...]:
        """The texts ``KEY=VALUE`` of ``--set`` that say the same for ``recipe``, beside those
        ``given``. Raises ReidpipeError where not exactly one stage takes it, where one of the given
        says another value of it, and for a batch that is no whole number of identities.
        """
        found = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                found.append(_setting(recipe, field.name, value, given))
        return tuple(found)

    def typed(self) -> tuple[str, ...]:
        """As they were typed, in the order of ``settings``."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return tuple(f"--{name} {value}" for name, value in given if value is not None)

    def shared(self, recipes: Sequence[Recipe], given: Sequence[str] = ()) -> tuple[str, ...]:
        """``settings`` for several recipes, which must be the same for all of them."""
        each = {recipe.name: self.settings(recipe, given) for recipe in recipes}
        if len(set(each.values())) > 1:
            (one, first), (other, second) = list(each.items())[:2]
            raise ReidpipeError(
                f"found short forms that mean {' '.join(first)} for {one} and {' '.join(second)} "
                f"for {other}; expected one meaning for all recipes; type --set, or a command each"
            )
        return next(iter(each.values()), ())


def _setting(recipe: Recipe, name: str, value: Any, given: Sequence[str]) -> str:
    typed = f"--{name} {value}"
    keys = {number: key for number, stage in enumerate(recipe.stages) if (key := _key(stage, name))}
    full = [f"stages.{recipe.stages[number].name}.{key}" for number, key in keys.items()]
    if len(keys) != 1:
        why = (
            f"which has {len(keys)} stages that take it; expected one; type --set "
            f"{full[-1]}={_example(recipe, name, value)} (or {', '.join(full[:-1])})"
            if keys
            else "no stage of which takes it; expected one that does; "
            f"type reidpipe recipes {recipe.name} to see its keys"
        )
        raise ReidpipeError(f"found {typed} for {recipe.name}, {why}")
    ((number, key),) = keys.items()
    content = recipe.model_dump(mode="json")
    own = place_of(content, full[0])
    twice = [text for text in given if place_of(content, text.partition("=")[0]) == own]
    if twice:
        raise ReidpipeError(
            f"found {typed} and --set {twice[-1]}; expected one of them; leave one out"
        )
    return f"stages.{number}.{key}={_value(recipe.stages[number], name, value)}"


def _key(stage: Stage, name: str) -> str | None:
    """The key inside a stage that a short form sets; None where the stage does not take it."""
    if name == "batch":
        if isinstance(stage.data, IdentityBatches):
            return "data.ids"
        return "data.batch" if "batch" in stage.data.model_dump() else None
    return "optimiser.lr" if name == "lr" else name


def _value(stage: Stage, name: str, value: Any) -> Any:
    if name != "batch" or not isinstance(stage.data, IdentityBatches):
        return value
    each = stage.data.images_per_id
    if value % each:
        near = max(1, value // each) * each
        raise ReidpipeError(
            f"found --batch {value} for stage '{stage.name}', whose batches hold {each} images of "
            f"each identity; expected a multiple of {each}; type --batch {near}"
        )
    return value // each


def _example(recipe: Recipe, name: str, value: Any) -> Any:
    """The value for the last stage that takes it, as near as can be."""
    stage = next(stage for stage in reversed(recipe.stages) if _key(stage, name))
    if name == "batch" and isinstance(stage.data, IdentityBatches):
        return max(1, value // stage.data.images_per_id)
    return value


def in_full(path: str, content: Mapping[str, Any]) -> bool:
    """Whether a key of ``--set`` begins where a recipe with this ``content`` does: not ``epochs``,
    ``image.epochs`` or ``stages.epochs``.
    """
    first, *rest = path.split(".")
    stages = content.get("stages")
    if first != "stages" or not rest or not isinstance(stages, list):
        return first in Recipe.model_fields
    names = [stage.get("name") for stage in stages if isinstance(stage, dict)]
    return rest[0] in names or rest[0].isdecimal()


def check_meant(recipe: Recipe, path: str, text: str) -> None:
    """Raise ReidpipeError for a key of ``--set PATH=TEXT`` that is not ``in_full``, naming the full
    keys that it can mean. What means none is left to those who know what is wrong with it.
    """
    parts = path.split(".")
    meant = [key for key in _keys(recipe.model_dump(mode="json")) if _leads(parts, key.split("."))]
    if meant:
        others = ", ".join(meant[1:MOST_KEYS]) + (", ..." if len(meant) > MOST_KEYS else "")
        raise ReidpipeError(
            f"found --set {path}={text} for {recipe.name}; expected a key in full; "
            f"type --set {meant[0]}={text}" + (f" (or {others})" if others else "")
        )


def _keys(value: Any, path: str = "") -> Iterator[str]:
    """Every key of a recipe as a person types it: stages by name, losses by number."""
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        items = [(item.get("name", str(n)), item) for n, item in enumerate(value)]
    if path:
        yield path
    for name, item in items:
        yield from _keys(item, f"{path}.{name}" if path else str(name))


def _leads(parts: Sequence[str], key: Sequence[str]) -> bool:
    """Whether a key ends like ``parts`` and has them all, in order."""
    rest = iter(key)
    return parts[-1] == key[-1] and all(part in rest for part in parts)
