"""What is typed about a recipe (``--set``, ``--pretrained``), and the model step it asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.datasets.index import read_index
from pipeline.datasets.sources import index_step
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.models.installed import INSTALLED, check_trunk, installed_file
from reid_train.recipe import random_start, steps
from reid_train.recipe.checks import check_labels, check_made
from reid_train.recipe.loading import from_plain, label_free_recipes, load_recipe
from reid_train.recipe.needs import check_numbers
from reid_train.recipe.schema import Recipe
from reid_train.recipe.short_forms import Short


class Once:
    """What one command looks at once, however many models it asks for: recipes with their settings,
    the bytes of files to start from, and what is wrong with a recipe, which neither seed nor
    dataset changes.
    """

    def __init__(self) -> None:
        self.recipe = cache(changed_recipe)
        self.start = cache(steps.Start.of)
        self._made: set[str] = set()

    def check_made(self, recipe: Recipe, start: str) -> None:
        """Raises ReidpipeError, as ``checks.check_made``."""
        text = json.dumps([recipe.plain(), start], sort_keys=True)
        if text not in self._made:
            if start in INSTALLED:
                installed_file(start)
            check_made(recipe, start)
            self._made.add(text)


def model_step(
    terminal: Terminal,
    recipe: str,
    dataset: str,
    *,
    seed: int,
    pretrained: str | None = None,
    settings: tuple[str, ...] = (),
    label_maps: Callable[[Step], Step] | None = None,
    index: Step | None = None,
    once: Once | None = None,
) -> Step:
    """The model step of a command line. ``label_maps`` gives those of the dataset's index, and
    is asked when the recipe reads them. ``pretrained`` None: what the recipe says. ``index``: the
    dataset's, where the caller has it already (looking at a tree of images takes a while).
    ``once``: of a command that asks for several models.

    Raises ReidpipeError for all that is wrong with the recipe, before anything is made of it.
    """
    once = once or Once()
    loaded = once.recipe(recipe, settings)
    twice = [text for text in settings if text.startswith("model.pretrained=")]
    if twice and pretrained is not None:
        raise ReidpipeError(
            f"found --pretrained {pretrained} and --set {twice[0]}; expected one of them; leave "
            "one out"
        )
    start = _start(pretrained or loaded.model.pretrained, loaded.model.trunk)
    loaded = random_start.named(loaded, start)
    index = index or index_step(terminal.workspace, dataset, make=terminal.make)
    maps = label_maps(index) if label_maps is not None and loaded.reads_maps else None
    given = loaded.model.teacher
    teacher = _start(given.pretrained, given.trunk) if given else "none"
    step = steps.model(
        index,
        loaded,
        seed=seed,
        pretrained=once.start(start),
        teacher=once.start(teacher),
        label_maps=maps,
    )
    if not terminal.workspace.complete(step):
        once.check_made(loaded, start)
    return step


def check_data(workspace: Workspace, model: Step, typed: str) -> None:
    """Raise ReidpipeError for a model that is missing and that its index, which exists, has no
    labels or too few people or images for. typed: the dataset as it was typed.
    """
    if not workspace.complete(model):
        index = read_index(workspace.folder(model.inputs["index"]))
        recipe = from_plain(model.params["recipe"])
        check_labels(recipe, index, label_free_recipes, typed=typed)
        check_numbers(recipe, index, typed=typed)


def changed_recipe(recipe: str, settings: tuple[str, ...]) -> Recipe:
    """A recipe by name or file with the values of ``--set KEY=VALUE``."""
    return load_recipe(recipe, overrides(settings))


def overrides(settings: Iterable[str]) -> dict[str, str]:
    """Key -> value of ``--set KEY=VALUE``, in the order in which they replace each other: of a key
    that is typed twice the last, after all that was typed before it.
    """
    found: dict[str, str] = {}
    for key, value in map(setting, settings):
        found.pop(key, None)
        found[key] = value
    return found


def in_settings(recipes: Sequence[str], settings: tuple[str, ...], short: Short) -> tuple[str, ...]:
    """``settings`` with what the short forms mean for all of ``recipes``. Raises ReidpipeError."""
    if short == Short():
        return settings
    loaded = [changed_recipe(recipe, settings) for recipe in dict.fromkeys(recipes)]
    return (*settings, *short.shared(loaded, settings))


def _start(pretrained: str, trunk: str) -> str:
    """What ``trunk`` is to start from, for ``steps.model``."""
    if pretrained in INSTALLED:
        check_trunk(pretrained, trunk)
    if pretrained in clip_tiny.FILES:
        return str(clip_tiny.FILES[pretrained])
    if not steps.stands_for_bytes(pretrained) and not Path(pretrained).is_file():
        raise ReidpipeError(
            f"found no file {pretrained}; expected none, openai, open_clip:ARCH/TAG, imagenet, "
            f"{', '.join((*clip_tiny.FILES, *INSTALLED))} or a file with weights; "
            "type --pretrained none"
        )
    return pretrained


def setting(text: str) -> tuple[str, str]:
    """``KEY=VALUE`` as its two halves. Raises ReidpipeError for anything else."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ReidpipeError(
            f"found --set {text}; expected KEY=VALUE; type --set stages.0.epochs=20"
        )
    return key, value
