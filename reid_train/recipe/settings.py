"""What must be typed to get a recipe that was used: the published one it is, and each ``--set``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.artifacts.epochs import trained
from pipeline.artifacts.runs import run_name
from pipeline.artifacts.steps import Step
from reid_train.recipe import random_start
from reid_train.recipe.loading import list_recipes, load_recipe


def train_command(recipe: Mapping[str, Any], dataset: str, seed: int | None) -> str | None:
    """The ``reidpipe train`` line of a recipe in its plain form, which may lack stages and parts
    that are other artifacts' (``reid_train.recipe.steps``): what is not told is not compared. None
    for a recipe that is not in the package. Options that name files (``--pretrained``, maps) are
    not in a recipe and so not in the line.
    """
    called = str(recipe.get("name"))
    name = random_start.published(called)
    if name not in list_recipes():
        return None
    words = ["reidpipe", "train", name, "--dataset", dataset]
    words += [] if name == called else ["--pretrained", "none"]
    words += [] if seed is None else ["--seed", str(seed)]
    for path, value in settings(recipe, load_recipe(name).plain()):
        words += ["--set", f"{path}={value}"]
    return shlex.join(words)


def continue_command(recipe: Mapping[str, Any], start: Step, dataset: str, seed: int) -> str:
    """The ``reidpipe train --continue`` line of a model that goes on from ``start``, a model or an
    epoch of one. recipe, dataset, seed: its own.
    """
    before = trained(start)
    used, source = before.params["recipe"], before.inputs["index"].params["dataset"]
    name = run_name(used["name"], source, before.params["seed"], before.key)
    name = f"{name}@{start.params['epoch']}" if start is not before else name
    words = ["reidpipe", "train", "--continue", name, "--dataset", dataset, "--seed", str(seed)]
    for path, value in settings(recipe, used):
        words += ["--set", f"{path}={value}"]
    return shlex.join(words)


def deviations(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """What a recipe in its plain form does otherwise than its authors; nothing for one that is not
    in the package.
    """
    name = random_start.published(str(recipe.get("name")))
    return load_recipe(name).deviations if name in list_recipes() else ()


def settings(used: Any, published: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path and YAML text of each value of ``used`` that is another in ``published``. Lists
    of named parts, as stages are, are compared part by part.
    """
    if isinstance(used, Mapping) and isinstance(published, Mapping):
        for key, value in used.items():
            if key in published:
                yield from settings(value, published[key], f"{path}.{key}".lstrip("."))
    elif _named(used) and _named(published):
        others = {part["name"]: part for part in published}
        for part in used:
            if part["name"] in others:
                yield from settings(part, others[part["name"]], f"{path}.{part['name']}")
    elif used != published and not (used is None and isinstance(published, Mapping)):
        yield path, json.dumps(used)


def _named(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(part, Mapping) and "name" in part for part in value
    )
