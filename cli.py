"""The ``reidpipe`` command: from datasets to metrics."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from pipeline.artifacts.steps import Step
from pipeline.terminal.commandline import (
    CONTEXT,
    DEVICE,
    LABEL_MAP,
    PARSER_OPTION,
    WORKSPACE,
    LazyGroup,
    Terminal,
    json_option,
)

COMMANDS = {
    "prepare": (
        "Fetch, verify, index, check and pack a dataset.",
        "pipeline.datasets.commands:prepare",
    ),
    "parse": ("Cache human-parsing label maps.", "parsing_models.commands:parse"),
    "train": ("Train a recipe; makes what is missing, resumes.", "cli:train"),
    "eval": ("Evaluate a run: CMC, mAP, mINP, report.", "reid_train.evaluation.commands:evaluate"),
    "run": ("All of it for many recipes, parsers, seeds: a table.", "cli:run"),
    "report": ("One HTML page for a run or a comparison.", "reid_train.figures.commands:report"),
    "classify": ("Prompt learners by class name: tables.", "reid_train.classify.commands:classify"),
    "embed": ("Features of a folder of images.", "reid_train.search.commands:embed"),
    "search": ("Ranked matches of an image in a folder.", "reid_train.search.commands:search"),
    "score": ("Similarity of two images.", "reid_train.search.commands:score"),
    "import": ("A published checkpoint as a run.", "reid_train.exchange.commands:import_model"),
    "export": (
        "A run's model as ONNX or torch.export.",
        "reid_train.exchange.commands:export_model",
    ),
    "demo": ("The whole graph on generated people.", "cli:demo"),
    "status": ("What exists and what was left unfinished.", "pipeline.artifacts.commands:status"),
    "cache": ("List, remove or verify artifacts.", "pipeline.artifacts.commands:cache"),
    "datasets": ("Datasets, their licences and citations.", "pipeline.datasets.commands:datasets"),
    "recipes": ("Recipes and what they train.", "reid_train.recipe.commands:recipes"),
    "doctor": ("Versions, devices, disk, what is missing.", "cli:doctor"),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings=CONTEXT)
@WORKSPACE
@click.version_option(version("reidpipe"), prog_name="reidpipe")
def main(workspace: Path) -> None:
    """Person re-identification from datasets to metrics.

    prepare -> parse -> train -> eval; every step is cached and reused. Without arguments each of
    the four works on generated people and downloads nothing. Start with: reidpipe demo
    """


@main.result_callback()
def finished(result: Any, **options: Any) -> None:
    """Called when a command has done its work."""
    del result, options
    if "WORLD_SIZE" in os.environ:
        from reid_train.engine.runtime import leave

        leave()


@click.command(context_settings=CONTEXT)
@click.argument("recipe", default="pi-vl-tiny")
@click.option("--dataset", default="mannequins", show_default=True, help="Dataset id[:variant].")
@click.option(
    "--parsing",
    default="schp-tiny",
    show_default=True,
    metavar="MODEL",
    help="Parser whose label maps a part-informed recipe reads.",
)
@LABEL_MAP
@PARSER_OPTION
@click.option(
    "--pretrained",
    metavar="WEIGHTS",
    help="Start from none, openai, open_clip:ARCH/TAG, imagenet, clip-tiny or a file.  "
    "[default: the recipe's]",
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one value of the recipe."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@DEVICE
@json_option
def train(
    terminal: Terminal,
    recipe: str,
    dataset: str,
    parsing: str,
    label_map: Path | None,
    parser_settings: tuple[tuple[str, str], ...],
    pretrained: str | None,
    settings: tuple[str, ...],
    seed: int,
    device: str,
) -> None:
    """Train RECIPE (a name or a YAML file) on the train split of a dataset.

    What is missing is made first; a killed training continues by itself.
    Example: reidpipe train slicenet2 --dataset col780 --seed 1 --set stages.0.epochs=20
    """
    from parsing_models.commands import check_parsers, maps_step, options_of
    from pipeline.artifacts import graph
    from pipeline.artifacts.runs import record_run
    from reid_train.recipe.commands import model_step

    terminal.workspace.writable()
    check_parsers([parsing], label_map, option="--parsing")
    chosen = options_of([parsing], parser_settings)
    step = model_step(
        terminal,
        recipe,
        dataset,
        seed=seed,
        pretrained=pretrained,
        settings=settings,
        label_maps=lambda index: maps_step(
            terminal,
            index,
            parsing,
            label_map=label_map,
            settings=chosen[parsing],
            option="--parsing",
        ),
    )
    outcome = graph.run(
        terminal.workspace, [step], terminal.execution(device=device), announce=terminal.announce
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
    terminal.say(f"next: reidpipe eval {run.name}")
    terminal.result(
        {
            "run": run.name,
            "model": str(terminal.workspace.folder(step)),
            "made": [made.key for made in outcome.made],
            **summary,
        }
    )


@click.command(context_settings=CONTEXT)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option("--dataset", "datasets", multiple=True, help="Dataset id.  [default: mannequins]")
@click.option(
    "--parsing",
    "parsers",
    multiple=True,
    metavar="MODEL[,MODEL...]",
    help="Parsers; each is a row of the recipes that read label maps.  [default: schp-tiny]",
)
@LABEL_MAP
@PARSER_OPTION
@click.option(
    "--seed", "seeds", multiple=True, metavar="N|N-M", help="Seeds to average over.  [default: 0]"
)
@click.option("--pretrained", metavar="WEIGHTS", help="As of train.  [default: the recipe's]")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of all recipes."
)
@click.option("--report", "with_report", is_flag=True, help="Compare the first seeds in HTML.")
@DEVICE
@json_option
def run(
    terminal: Terminal,
    recipes: tuple[str, ...],
    datasets: tuple[str, ...],
    parsers: tuple[str, ...],
    label_map: Path | None,
    parser_settings: tuple[tuple[str, str], ...],
    seeds: tuple[str, ...],
    pretrained: str | None,
    settings: tuple[str, ...],
    with_report: bool,
    device: str,
) -> None:
    """Train and evaluate every RECIPE on every dataset, parser and seed; print one table.

    All of it is one graph: packed pixels, label maps, frozen features and prompts are made once and
    shared by what reads them. A recipe that reads no label maps is one row whatever the parsers.
    Figures are mean ± sample standard deviation over the seeds.

    \b
    Example: reidpipe run baseline-tiny pi-vl-tiny --seed 0-4
    The tables of the part-informed paper (its parsers, its ablations, its student):
      reidpipe run pi-vl-rn50 --dataset market1501 --parsing schp,solider,invpt
      reidpipe run clip-reid-rn50 pi-vl-rn50-h pi-vl-rn50-p pi-vl-rn50 --dataset market1501
      reidpipe run distill-mobilenet-none distill-mobilenet-clip-reid distill-mobilenet-pi-vl
    """
    from parsing_models.commands import check_parsers, maps_step, options_of
    from pipeline.artifacts import graph, requests
    from reid_train.figures.commands import report_page, shared_maps
    from reid_train.recipe import combinations

    def label_maps(index: Step, parser: str) -> Step:
        return maps_step(
            terminal,
            index,
            parser,
            label_map=label_map,
            settings=chosen[parser],
            option="--parsing",
        )

    terminal.workspace.writable()
    kinds = combinations.read_names(parsers or ["schp-tiny"], "--parsing")
    check_parsers(kinds, label_map, option="--parsing")
    chosen = options_of(kinds, parser_settings)
    cells = combinations.combinations(
        terminal,
        recipes,
        combinations.read_names(datasets or ["mannequins"], "--dataset"),
        kinds,
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
    outcome = graph.run(
        terminal.workspace, targets, terminal.execution(device=device), announce=terminal.announce
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
DEMO = {
    "baseline-tiny": (),
    "clip-reid-tiny": ("stages.identity-prompts.epochs=10",),
    "pi-vl-tiny": ("stages.identity-prompts.epochs=10", "stages.part-prompts.epochs=1"),
}


@click.command(context_settings=CONTEXT)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@DEVICE
@json_option
def demo(terminal: Terminal, seed: int, device: str) -> None:
    """Prepare, parse, train, evaluate and report on generated people; downloads nothing.

    Baseline, CLIP-ReID and pi-VL side by side, each for fewer epochs than its recipe has.
    Example: reidpipe demo
    """
    from parsing_models.commands import maps_step
    from pipeline.artifacts import graph, requests
    from pipeline.artifacts.atomic import read_json
    from pipeline.artifacts.runs import record_run
    from pipeline.datasets.sources import GENERATED, index_step
    from pipeline.terminal.tables import format_table
    from reid_train.evaluation.results import METRIC_COLUMNS, metrics_row, protocol_line
    from reid_train.figures.commands import report_page
    from reid_train.recipe.commands import model_step

    terminal.workspace.writable()
    index = index_step(terminal.workspace, GENERATED)
    maps = maps_step(terminal, index)
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


@click.command(context_settings=CONTEXT)
@json_option
def doctor(terminal: Terminal) -> None:
    """Check what reidpipe stands on: versions, devices, disk, weights.

    Example: reidpipe doctor
    """
    from parsing_models.parsers.catalogue import CATALOGUE, weights_file
    from pipeline.artifacts.store import versions
    from pipeline.terminal.errors import ReidpipeError
    from pipeline.terminal.tables import human_bytes
    from reid_train.engine.runtime import list_devices

    found = versions()
    for package, number in found.items():
        terminal.say(f"{package} {number}")
    devices = list_devices()
    for name in devices:
        terminal.say(f"device {name}")
    existing = next(
        p for p in (terminal.workspace.root, *terminal.workspace.root.parents) if p.exists()
    )
    free = shutil.disk_usage(existing).free
    terminal.say(f"workspace {terminal.workspace.root}: {human_bytes(free)} free")
    parsers: dict[str, str] = {}
    for kind in CATALOGUE:
        try:
            parsers[kind] = str(weights_file(kind, workspace=terminal.workspace.root))
            terminal.say(f"parser {kind}: ready")
        except ReidpipeError as error:
            parsers[kind] = ""
            terminal.say(f"parser {kind}: {error}")
    terminal.result(
        {
            "versions": found,
            "devices": devices,
            "workspace": str(terminal.workspace.root),
            "free_bytes": free,
            "parsers": parsers,
        }
    )


if __name__ == "__main__":
    main()
