"""``reidpipe eval``, ``report`` and ``recipes``; the steps that ``train`` and ``demo`` ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipeline.artifacts.steps import Step
from pipeline.datasets.sources import index_step
from pipeline.terminal.commandline import CONTEXT, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.tables import format_table
from reid_train.classify.recipe import list_learners, load_learner
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.recipe import steps
from reid_train.recipe.loading import list_recipes, load_recipe
from reid_train.recipe.schema import Recipe


@click.command(context_settings=CONTEXT)
@click.argument("recipe", required=False)
@click.option("--parameters", is_flag=True, help="Count parameters of each model (imports torch).")
@json_option
def recipes(terminal: Terminal, recipe: str | None, parameters: bool) -> None:
    """All recipes, or one in full with its published results. Those for classify come last; of
    these the parameters are what the learner trains in the comparisons of CoCoOp and MaPLe.

    Example: reidpipe recipes slicenet2
    """
    if recipe is not None:
        import yaml

        loaded = load_learner(recipe) if recipe in list_learners() else load_recipe(recipe)
        value = loaded.model_dump(mode="json")
        terminal.say(yaml.safe_dump(value, sort_keys=False).rstrip())
        terminal.result(value)
        return
    from reid_train.classify.tables import learner_rows

    rows: list[dict[str, Any]] = []
    for name in list_recipes():
        loaded = load_recipe(name)
        row: dict[str, Any] = {
            "recipe": name,
            "input": "x".join(str(side) for side in loaded.input.size),
            "stages": " + ".join(f"{stage.name} ({stage.epochs})" for stage in loaded.stages),
            "about": loaded.summary,
        }
        if parameters:
            from reid_train.recipe.assembly import count_parameters

            row["parameters"] = count_parameters(loaded)
        rows.append(row)
    rows += learner_rows(parameters)
    columns = ["recipe", "input", "stages", *(["parameters"] if parameters else []), "about"]
    terminal.say(format_table(rows, columns))
    terminal.result(rows)


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
) -> Step:
    """The model step of a command line. ``label_maps`` gives those of the dataset's index, and
    is asked when the recipe reads them. ``pretrained`` None: what the recipe says. ``index``: the
    dataset's, where the caller has it already (looking at a tree of images takes a while).
    """
    loaded = changed_recipe(recipe, settings)
    start = _start(pretrained or loaded.model.pretrained)
    index = index or index_step(terminal.workspace, dataset)
    maps = label_maps(index) if label_maps is not None and loaded.reads_maps else None
    teacher = _start(loaded.model.teacher.pretrained) if loaded.model.teacher else "none"
    return steps.model(index, loaded, seed=seed, pretrained=start, teacher=teacher, label_maps=maps)


def changed_recipe(recipe: str, settings: tuple[str, ...]) -> Recipe:
    """A recipe by name or file with the values of ``--set KEY=VALUE``."""
    return load_recipe(recipe, dict(setting(text) for text in settings))


def _start(pretrained: str) -> str:
    """What to start from, for ``steps.model``."""
    if pretrained in clip_tiny.FILES:
        return str(clip_tiny.FILES[pretrained])
    if not steps.stands_for_bytes(pretrained) and not Path(pretrained).is_file():
        raise ReidpipeError(
            f"found no file {pretrained}; expected none, openai, open_clip:ARCH/TAG, imagenet, "
            f"{', '.join(clip_tiny.FILES)} or a file with weights; type --pretrained none"
        )
    return pretrained


def setting(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ReidpipeError(
            f"found --set {text}; expected KEY=VALUE; type --set stages.0.epochs=20"
        )
    return key, value
