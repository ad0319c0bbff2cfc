"""``reidpipe import`` and ``reidpipe export``: other people's checkpoints in, ours out."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import click

from pipeline.artifacts import graph
from pipeline.artifacts.atomic import replacing, sha256_file, write_json
from pipeline.artifacts.checked import checked, read_json
from pipeline.artifacts.runs import Run, find_run, record_runs
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.datasets.catalogue import load_manifest
from pipeline.plugins import digests
from pipeline.terminal.commandline import CONTEXT, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.options import (
    ANYTHING,
    NUMBER,
    RGB,
    SIZE,
    TEXT,
    WHOLE,
    Option,
    read_option,
)
from pipeline.terminal.paths import TypedPath, check_out
from reid_train.evaluation.results import ELSEWHERE, distance_of
from reid_train.evaluation.similarity import NAMES
from reid_train.exchange.formats import FORMATS
from reid_train.search.encoder import making
from reid_train.search.threshold import newest_calibration

PATH = TypedPath()


# Of all formats; a format's reader says which are its own.
OPTIONS = {
    "input_size": SIZE,
    "mean": RGB,
    "std": RGB,
    "stride": WHOLE,
    "views": WHOLE,
    "sie_coefficient": NUMBER,
    "sie": Option("camera, view or camera-view", TEXT.fits),
    "neck": Option("before or after", TEXT.fits),
    "architecture": Option("a trunk's name", TEXT.fits),
    "distance": Option("cosine or euclidean", TEXT.fits),
}


@click.command("import", context_settings=CONTEXT)
@click.argument("file", type=PATH)
@click.option(
    "--from",
    "format",
    required=True,
    metavar="FORMAT",
    help=f"One of {', '.join(FORMATS.own)}, or a plugin's.",
)
@click.option("--name", help="What to call it.  [default: the file's name]")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help=f"What the file does not say: {', '.join(OPTIONS)}.",
)
@click.option(
    "--trained-on",
    metavar="DATASET",
    help="The set it was trained on: its cameras are those of the file's table, if it has one.",
)
@json_option
def import_model(
    terminal: Terminal,
    file: Path,
    format: str,
    name: str | None,
    settings: tuple[str, ...],
    trained_on: str | None,
) -> None:
    """Make a run of a published checkpoint FILE, for eval, embed, search, score and export.

    Only tensors are read from it. eval needs --dataset unless --trained-on says where it was
    trained. A table of cameras or views is used on that set alone, and nowhere without.

    \b
    Example: reidpipe import MSMT17_clipreid_ViT-B-16_60.pth --from clip-reid --name msmt17
    Example: reidpipe import slicenet1.pth --from col780 --set input_size=[128,48]
    """
    terminal.workspace.writable()
    if not file.is_file():
        raise ReidpipeError(f"found no file {file}; expected a checkpoint; type the path of one")
    if format not in FORMATS:
        raise ReidpipeError(
            f"found format '{format}'{nearest(format, FORMATS)}; expected one of "
            f"{', '.join(FORMATS)}; type --from {next(iter(FORMATS))}"
        )
    description = checkpoint_step(
        file, format, dict(read_option(text, _options(format), of=format) for text in settings)
    )
    execution = terminal.execution()
    first = graph.run(terminal.workspace, [description], execution, announce=terminal.announce)
    network = read_json(terminal.workspace.folder(description) / "network.json")
    dataset = ELSEWHERE if trained_on is None else load_manifest(trained_on).dataset
    model = imported_step(description, network, called(name or file.stem), dataset)
    second = graph.run(terminal.workspace, [model], execution, announce=terminal.announce)
    named = Run.of(model.params["recipe"]["name"], dataset, model.params["seed"], model)
    (run,) = record_runs(terminal.workspace, [named])
    made = first.made + second.made
    kept = [step for step in (description, model) if step not in made]
    terminal.told(graph.Outcome(made, tuple(kept)))
    summary = terminal.workspace.provenance(model)["summary"]
    terminal.say(f"run {run.name}")
    height, width = summary["input_size"]
    terminal.say(
        f"  {summary['trunk']}, {summary['parameters']} parameters, images {height}x{width} "
        f"{network['test_filter']}, {distance_of(model)} distance"
    )
    for line in _table_lines(network["model"]["options"], trained_on):
        terminal.say(line)
    where = "" if trained_on else " --dataset mannequins"
    terminal.say(f"next: reidpipe eval {run.name}{where}")
    terminal.result(
        {
            "run": run.name,
            "model": str(terminal.workspace.folder(model)),
            "made": [step.key for step in made],
            **summary,
        }
    )


@click.command("export", context_settings=CONTEXT)
@click.argument("run")
@click.option(
    "--format",
    "format",
    type=click.Choice(["onnx", "torch-export", "safetensors"]),
    required=True,
    help="safetensors: weights and model.json as they are.",
)
@click.option("--out", type=PATH, help="File to write.  [default: in the workspace's exports/]")
@json_option
def export_model(terminal: Terminal, run: str, format: str, out: Path | None) -> None:
    """Write the model of RUN as a program that needs no reidpipe.

    It takes RGB images N,3,H,W in 0..1, any N, at the model's input size, and gives the features
    N,D, not normalised. The program is compared with the model on random images before it is
    written; NAME.onnx.json or NAME.pt2.json beside it says what goes in and out by which names
    (images, embedding, n of them), how far they are apart, and the threshold of the run's newest
    evaluation with its pairs and interval. Weights have NAME.json.
    onnx needs pip install onnx onnxscript onnxruntime.
    Example: reidpipe export baseline-tiny --format torch-export --out person.pt2
    """
    from reid_train import load_model
    from reid_train.evaluation.side_information import left_out
    from reid_train.exchange import exporting

    found = find_run(terminal.workspace, run)
    suffix = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}[format]
    file = out or terminal.workspace.root / "exports" / f"{found.name}{suffix}"
    if file.suffix != suffix:
        raise ReidpipeError(
            f"found --out {file} for {format}; expected a name that ends in {suffix}; "
            f"type --out {file.parent / f'{file.stem or found.name}{suffix}'}"
        )
    check_out(file, folder=False)
    if format == "onnx":
        exporting.require_onnx()
    terminal.workspace.writable()
    execution = terminal.execution()
    graph.run(terminal.workspace, [found.model], execution, announce=terminal.announce)
    folder = terminal.workspace.folder(found.model)
    if format == "safetensors":
        with replacing(file) as temporary:
            shutil.copyfile(checked(folder / "model.safetensors"), temporary)
        about = read_json(folder / "model.json")
        about["threshold"] = threshold_about(terminal.workspace, found)
    else:
        model = load_model(folder)
        if (told := left_out(model, "the program's images are of no data set")) is not None:
            terminal.say(told)
            model.leave_out_tables()
        write = exporting.export_onnx if format == "onnx" else exporting.export_torch
        about = {**_about(terminal.workspace, found, model), **write(model, file), "format": format}
        terminal.say(
            f"largest difference from the model {about['max_error']:.2g} "
            f"({about['relative_error']:.2g} of the largest feature), "
            f"batches of {' and '.join(map(str, about['batches']))} random images"
        )
    # Readers of weights look for NAME.json; a program of that name must leave it to them.
    beside = file.with_suffix(".json" if format == "safetensors" else f"{suffix}.json")
    write_json(beside, about)
    terminal.say(f"wrote {file} and {beside.name}")
    terminal.result({"run": found.name, "file": str(file), "about": str(beside), **about})


def _table_lines(options: Mapping[str, Any], trained_on: str | None) -> list[str]:
    """What is said of a file's table of cameras or views."""
    counts = {name: options[name] for name in ("cameras", "views") if options.get(name)}
    if not counts:
        return []
    table = f"table of {' and '.join(f'{count} {name}' for name, count in counts.items())}"
    if trained_on is None:
        return [f"  {table}, left out: say --trained-on DATASET and it is used there"]
    lines = [f"  {table}, used on {trained_on} and left out elsewhere"]
    train = load_manifest(trained_on).counts.get("train")
    cameras = train.cameras.one_of if train and train.cameras else ()
    if cameras and "cameras" in counts and counts["cameras"] not in cameras:
        known = " or ".join(map(str, cameras))
        lines.append(f"warning: {trained_on} has {known} cameras, the table {counts['cameras']}")
    return lines


def _options(format: str) -> Mapping[str, Option]:
    """What ``--set`` may say about a file; of a plugin's format the arguments of its importer."""
    if format in FORMATS.own:
        return OPTIONS
    arguments = signature(FORMATS[format]).parameters.values()
    return {p.name: ANYTHING for p in arguments if p.kind is p.KEYWORD_ONLY}


def checkpoint_step(file: Path, format: str, options: dict[str, Any]) -> Step:
    """The step that finds out what network a published file holds; its bytes enter the key."""
    return Step(
        "checkpoint",
        {"format": format, "options": options},
        weights={"checkpoint": sha256_file(file), **digests([("importer", format)])},
        files={"checkpoint": str(file.resolve())},
    )


def imported_step(
    description: Step, network: dict[str, Any], name: str, dataset: str = ELSEWHERE
) -> Step:
    """The model step of a published file; ``network`` is the content of its description, dataset
    what it was trained on.
    """
    spec, filter = network["model"], network["test_filter"]
    given = {
        "size": spec["input_size"],
        "mean": spec["mean"],
        "std": spec["std"],
        "train_filter": filter,
        "test_filter": filter,
    }
    distance = {"distance": spec["distance"]} if "distance" in spec else {}
    recipe = {
        "name": name,
        "model": {"trunk": spec["trunk"], "options": spec["options"], "text": None},
        "input": given,
        "stages": [],
        "test": {"flip": network["flip"], **distance},
    }
    params = {
        **description.params,
        "sha256": description.weights["checkpoint"],
        "recipe": recipe,
        "dataset": dataset,
        "seed": None,
    }
    nameless = {key: value for key, value in recipe.items() if key != "name"}
    return Step(
        "model",
        params,
        {"checkpoint": description},
        weights=description.weights,
        files=description.files,
        keyed={**params, "recipe": nameless},
    )


def called(name: str) -> str:
    """A name that can stand in a run's: letters, digits, dots, dashes and underscores."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._-")
    if not plain:
        raise ReidpipeError(f"found name '{name}'; expected letters or digits; type --name mine")
    return plain


def _about(workspace: Workspace, run: Run, model: Any) -> dict[str, Any]:
    """What somebody must know to use an exported program."""
    from reid_train.exchange import exporting

    distance = distance_of(run.model)
    height, width = model.input_size
    return {
        "run": run.name,
        "input": f"images N,3,{height},{width} float32, RGB in 0..1; mean and std are inside",
        "resize": run.model.params["recipe"]["input"]["test_filter"],
        "output": f"features N,D float32, not normalised; compare them by their {NAMES[distance]}",
        "tensors": {
            "inputs": list(exporting.example_inputs(model, 1, seed=0)),
            "output": exporting.OUTPUT,
            "batch": exporting.BATCH,
        },
        "distance": distance,
        "add_mirrored": run.model.params["recipe"]["test"]["flip"],
        "threshold": threshold_about(workspace, run),
    }


def threshold_about(workspace: Workspace, run: Run) -> dict[str, Any] | None:
    """From which similarity two images are of one person, how often that errs, from how many pairs
    and how sure that is: as JSON; None before ``reidpipe eval``. It holds for features made as
    ``add_mirrored`` says, without a table of cameras.
    """
    threshold = newest_calibration(workspace, making(run, flip=False)).threshold
    return None if threshold is None else threshold.model_dump()
