"""The ``reidpipe`` command: from datasets to metrics."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from pipeline import plugins
from pipeline.artifacts.executors.threads import sleep_soon
from pipeline.terminal.commandline import (
    CONTEXT,
    PLUGIN,
    QUIET,
    STRICT,
    VERBOSE,
    WORKSPACE,
    LazyGroup,
    Terminal,
    json_option,
)
from reid_train.recipe import commands
from reid_train.recipe.bodies import PARSER

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
    "figure": (
        "A figure for a paper: SVG, PDF or PNG.",
        "reid_train.figures.paper.commands:figure",
    ),
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
    "watch": ("What is training: its curves.", "reid_train.engine.commands:watch"),
    "status": ("What exists and what was left unfinished.", "pipeline.artifacts.commands:status"),
    "cache": ("List, remove or verify artifacts.", "pipeline.artifacts.commands:cache"),
    "datasets": ("Datasets, their licences and citations.", "pipeline.datasets.commands:datasets"),
    "recipes": ("Recipes and what they train.", "reid_train.recipe.commands:recipes"),
    "doctor": ("Versions, devices, disk, what is missing.", "cli:doctor"),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings=CONTEXT)
@WORKSPACE
@PLUGIN
@STRICT
@VERBOSE
@QUIET
@click.version_option(version("reidpipe"), prog_name="reidpipe")
@click.pass_context
def main(context: click.Context, workspace: Path, given: tuple[str, ...], **watching: bool) -> None:
    """Person re-identification from datasets to metrics.

    prepare -> parse -> train -> eval; every step is cached and reused. Without arguments each of
    the four works on generated people and downloads nothing. Start with: reidpipe demo
    """
    del workspace, watching  # commands take them from the context
    sleep_soon()  # before anything that computes is loaded
    before = plugins.from_environment()
    plugins.use([*before, *given])
    # What this command gave its processes is not for the next command in the same process.
    context.call_on_close(lambda: plugins.use(before))


@main.result_callback()
def finished(result: Any, **options: Any) -> None:
    """Called when a command has done its work."""
    del result, options
    if "WORLD_SIZE" in os.environ:
        from reid_train.engine.runtime import leave

        leave()


@click.command(context_settings=CONTEXT)
@commands.train_options
@json_option
def train(
    terminal: Terminal,
    *,
    parsing: str,
    label_map: Path | None,
    parser_settings: tuple[tuple[str, str], ...],
    **options: Any,
) -> None:
    """Train RECIPE (a name or a YAML file) on the train split of a dataset.

    What is missing is made first; a killed training continues by itself.
    Example: reidpipe train slicenet2 --dataset col780 --seed 1 --set stages.0.epochs=20
    """
    from parsing_models.commands import parsers_of
    from reid_train.recipe.bodies.train import train as body

    terminal.workspace.writable()
    maps = parsers_of(terminal, [parsing], label_map, parser_settings)
    body(terminal, maps, parsing=parsing, **options)


@click.command(context_settings=CONTEXT)
@commands.run_options
@json_option
def run(
    terminal: Terminal,
    *,
    parsers: tuple[str, ...],
    label_map: Path | None,
    parser_settings: tuple[tuple[str, str], ...],
    **options: Any,
) -> None:
    """Train and evaluate every RECIPE on every dataset, parser and seed; print one table.

    All of it is one graph: packed pixels, label maps, frozen features and prompts are made once and
    shared by what reads them. A recipe that reads no label maps is one row whatever the parsers.
    Figures are mean ± sample standard deviation over the seeds.

    \b
    Example: reidpipe run baseline-tiny pi-vl-tiny --seed 0-4
    The tables of the part-informed paper (its parsers, its ablations, its student):
      reidpipe run pi-vl-rn50 --dataset market1501 --parsing schp,invpt
      reidpipe run pi-vl-tiny --parsing exact,exact:flipped=0.3,exact:borders=4,schp-tiny
      reidpipe run clip-reid-rn50 pi-vl-rn50-h pi-vl-rn50-p pi-vl-rn50 --dataset market1501
      reidpipe run distill-mobilenet-none distill-mobilenet-clip-reid distill-mobilenet-pi-vl
    """
    from parsing_models.commands import parsers_of
    from reid_train.recipe.bodies.run import run as body
    from reid_train.recipe.combinations import read_names

    terminal.workspace.writable()
    kinds = read_names(parsers or [PARSER], "--parsing")
    maps = parsers_of(terminal, kinds, label_map, parser_settings)
    body(terminal, maps, parsers=kinds, **options)


@click.command(context_settings=CONTEXT)
@commands.demo_options
@json_option
def demo(terminal: Terminal, **options: Any) -> None:
    """Prepare, parse, train, evaluate and report on generated people; downloads nothing.

    Baseline, CLIP-ReID and pi-VL side by side, each for fewer epochs than its recipe has.
    Example: reidpipe demo
    """
    from parsing_models.commands import parsers_of
    from reid_train.recipe.bodies.demo import demo as body

    terminal.workspace.writable()
    body(terminal, parsers_of(terminal, [PARSER]), **options)


@click.command(context_settings=CONTEXT)
@json_option
def doctor(terminal: Terminal) -> None:
    """Check what reidpipe stands on: versions, devices, disk, weights, extras, plugins.

    Example: reidpipe doctor
    """
    from parsing_models.parsers.catalogue import CATALOGUE, weights_file
    from pipeline.artifacts.executors.threads import (
        cores_here,
        file_of,
        recorded_threads,
        threads_of,
    )
    from pipeline.artifacts.store import versions
    from pipeline.images.jpeg import decoder
    from pipeline.terminal.errors import ReidpipeError
    from pipeline.terminal.tables import human_bytes
    from reid_train.engine.runtime import list_devices
    from reid_train.models.installed import INSTALLED, installed_file

    found = versions()
    for package, number in found.items():
        terminal.say(f"{package} {number}")
    terminal.say(f"JPEGs by {(jpegs := decoder())}")
    devices = list_devices()
    for name in devices:
        terminal.say(f"device {name}")
    root = terminal.workspace.root
    cores, recorded = cores_here(), recorded_threads(root)
    threads = threads_of(root, record=False)
    chosen = f"recorded in {file_of(root)}" if recorded else "as the first step will record"
    terminal.say(f"threads per step {threads} of {cores} cores, {chosen}")
    existing = next(
        p for p in (terminal.workspace.root, *terminal.workspace.root.parents) if p.exists()
    )
    free = shutil.disk_usage(existing).free
    terminal.say(f"workspace {terminal.workspace.root}: {human_bytes(free)} free")
    parsers: dict[str, str] = {}
    for kind in CATALOGUE:
        try:
            found_file = weights_file(kind, workspace=terminal.workspace.root)
            parsers[kind] = str(found_file or "none needed")
            terminal.say(f"parser {kind}: ready")
        except ReidpipeError as error:
            parsers[kind] = ""
            terminal.say(f"parser {kind}: {error}")
    packages: dict[str, str] = {}
    for package, known in INSTALLED.items():
        try:
            packages[package] = str(installed_file(package))
            terminal.say(f"extra {known.extra}: {package} ready")
        except ReidpipeError as error:
            packages[package] = ""
            terminal.say(f"extra {known.extra}: {error}")
    given: list[dict[str, Any]] = []
    for plugin in plugins.plugins():
        names = [f"{kind} {name}" for kind, name in sorted(plugin.names)]
        given.append({"plugin": plugin.reference, "sha256": plugin.digest, "names": names})
        terminal.say(f"plugin {plugin.reference} {plugin.digest[:12]}: {', '.join(names)}")
    terminal.result(
        {
            "versions": found,
            "jpegs": jpegs,
            "devices": devices,
            "threads": threads,
            "cores": cores,
            "workspace": str(terminal.workspace.root),
            "free_bytes": free,
            "parsers": parsers,
            "packages": packages,
            "plugins": given,
        }
    )


if __name__ == "__main__":
    main()
