"""``train --continue RUN``: a new model that goes on from a run's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pipeline.artifacts import requests
from pipeline.artifacts.epochs import trained
from pipeline.artifacts.runs import Run, find_run
from pipeline.artifacts.steps import Step
from pipeline.datasets.sources import index_step
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe import steps
from reid_train.recipe.arguments import overrides
from reid_train.recipe.bodies.map_options import MAP_OPTIONS
from reid_train.recipe.checks import check_made
from reid_train.recipe.files import is_file
from reid_train.recipe.loading import changed, from_plain
from reid_train.recipe.schema import Recipe
from reid_train.recipe.short_forms import Short


@dataclass(frozen=True)
class Continuation:
    """run: to go on from, or an epoch of one. recipe: its own, with its last stage alone, which
    trains what is exported.
    """

    run: Run
    recipe: Recipe

    def changed(self, settings: dict[str, str]) -> Continuation:
        """With single values of the recipe replaced (``--set``)."""
        return replace(self, recipe=changed(self.recipe, settings))

    def step(
        self,
        terminal: Terminal,
        *,
        dataset: str | None,
        seed: int | None,
        label_maps: Callable[[Step], Step],
    ) -> Step:
        """The model step. dataset, seed: None for the run's.

        Another dataset is trained on with fresh heads; a recipe with a text side cannot be, whose
        rows are of the people it was made for: that raises ReidpipeError, as does what is wrong
        with the recipe.
        """
        before = trained(self.run.model)
        inputs = {name: step for name, step in before.inputs.items() if name != "start"}
        index = (
            None if dataset is None else index_step(terminal.workspace, dataset, make=terminal.make)
        )
        if index is not None and index.key != inputs["index"].key:
            inputs = self._elsewhere(terminal, index, label_maps)
        number = before.params["seed"] if seed is None else seed
        step = steps.continuation(self.run.model, self.recipe, inputs, seed=number)
        if not terminal.workspace.complete(step):
            check_made(self.recipe)
        return step

    def _elsewhere(
        self, terminal: Terminal, index: Step, label_maps: Callable[[Step], Step]
    ) -> dict[str, Step]:
        given, name = self.recipe.input, index.params["dataset"]
        if self.recipe.model.text is not None:
            raise ReidpipeError(
                f"found --dataset {name} for a run on {self.run.dataset} with a text side, whose "
                "rows are of the people there; expected the same dataset; type reidpipe train "
                f"{self.recipe.name} --dataset {name} --pretrained {_file(terminal, self.run)}"
            )
        inputs = {
            "index": index,
            "images": requests.images(index, size=given.size, filter=given.train_filter),
        }
        return inputs | ({"maps": label_maps(index)} if self.recipe.reads_maps else {})


def continuation(terminal: Terminal, reference: str, recipe: str | None) -> Continuation:
    """Of the run that ``reference`` names. recipe: as typed, None where it was not.

    Raises ReidpipeError for another recipe than the run's, and for a file that was imported.
    """
    run = find_run(terminal.workspace, reference)
    before = trained(run.model)
    if "stages" not in before.params["recipe"]:
        raise ReidpipeError(
            f"found the imported model {run.name} for --continue; expected a run trained "
            f"here; type reidpipe train RECIPE --pretrained {_file(terminal, run)}"
        )
    given = Path(recipe).stem if recipe is not None and is_file(recipe) else recipe
    if given not in (None, run.recipe):
        raise ReidpipeError(
            f"found recipe {recipe} for --continue {reference}, a run of {run.recipe}; expected "
            "the same; leave it out, or start from the weights alone: type reidpipe train "
            f"{recipe} --pretrained {_file(terminal, run)}"
        )
    whole = from_plain(before.params["recipe"])
    return Continuation(run, whole.model_copy(update={"stages": whole.stages[-1:]}))


def continued_step(
    terminal: Terminal,
    reference: str,
    *,
    settings: tuple[str, ...],
    short: Short,
    label_maps: Callable[[Step], Step],
) -> Step:
    """The model step of ``train --continue REFERENCE``, of what else was typed on that command
    line: recipe, dataset and seed are the run's where they were not.

    Raises ReidpipeError for options that are the run's matter.
    """
    context = click.get_current_context()
    options = context.params

    def typed(name: str) -> Any:
        source = context.get_parameter_source(name)
        return options[name] if source == ParameterSource.COMMANDLINE else None

    for name, option in {"pretrained": "--pretrained", **MAP_OPTIONS}.items():
        if name in options and typed(name) is not None:
            raise ReidpipeError(
                f"found {option} beside --continue {reference}; expected one of them, for weights "
                f"and label maps are those of the run; leave {option} out"
            )
    found = continuation(terminal, reference, typed("recipe"))
    every = (*settings, *short.settings(found.recipe, settings))
    found = found.changed(overrides(every))
    return found.step(terminal, dataset=typed("dataset"), seed=typed("seed"), label_maps=label_maps)


def _file(terminal: Terminal, run: Run) -> Path:
    return terminal.workspace.folder(run.model) / "model.safetensors"
