"""``reidpipe parse``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from parsing_models.catalogue import entry, weights_file, weights_parts
from parsing_models.hub import KIND
from parsing_models.label_names import read_label_map
from pipeline import graph, requests
from pipeline.commandline import CONTEXT, DEVICE, Terminal, json_option
from pipeline.errors import ReidpipeError
from pipeline.sources import GENERATED, index_step
from pipeline.steps import Step

DEFAULT_PARSER = "schp-tiny"


@click.command(context_settings=CONTEXT)
@click.argument("dataset", default=GENERATED)
@click.option("--model", default=DEFAULT_PARSER, show_default=True, help="Parser.")
@click.option("--weights", type=click.Path(path_type=Path), help="Checkpoint of the parser.")
@click.option(
    "--label-map",
    type=click.Path(path_type=Path),
    help="JSON file {their label: label of lip} for a hf: model whose labels are not known.",
)
@DEVICE
@click.option("--flip", is_flag=True, help="Average with the mirrored image.")
@click.option("--scales", default="1.0", show_default=True, help="Input scales, comma-separated.")
@click.option("--workers", type=click.IntRange(1), help="Batches side by side.  [default: cores]")
@click.option("--scheduler", metavar="ADDR", help="dask cluster whose workers write the maps.")
@json_option
def parse(
    terminal: Terminal,
    dataset: str,
    model: str,
    weights: Path | None,
    label_map: Path | None,
    device: str,
    flip: bool,
    scales: str,
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Cache label maps and confidence of all images of DATASET in HDF5.

    A killed run continues with what is missing.
    Example: reidpipe parse col780 --model schp-tiny
    """
    terminal.workspace.writable()
    step = maps_step(
        terminal,
        dataset,
        model,
        weights=weights,
        label_map=label_map,
        flip=flip,
        scales=_scales(scales),
    )
    outcome = graph.run(
        terminal.workspace,
        [step],
        terminal.execution(device=device, workers=workers, scheduler=scheduler),
        announce=terminal.announce,
    )
    summary = terminal.workspace.provenance(step)["summary"]
    folder = terminal.workspace.folder(step)
    terminal.say(f"{summary['images']} maps of {dataset} by {model} in {folder}")
    if outcome.made and step in outcome.made:
        terminal.say(f"  {summary['seconds']:.1f} s, {summary['images_per_s']:.1f} images/s")
    for name, text in (
        ("no_person", "without a person"),
        ("one_class", "with one class only"),
        ("failed", "not parsed"),
    ):
        if summary[name]:
            first = ", ".join(summary[name][:5])
            terminal.say(f"  warning: {len(summary[name])} images {text}: {first}")
    terminal.told(outcome)
    terminal.result({"dataset": dataset, "model": model, "folder": str(folder), **summary})


def maps_step(
    terminal: Terminal,
    dataset: str,
    model: str = DEFAULT_PARSER,
    *,
    weights: Path | None = None,
    label_map: Path | None = None,
    flip: bool = False,
    scales: tuple[float, ...] = (1.0,),
) -> Step:
    """The label-map step of a dataset and a parser; its weights must be there.

    label_map: of a Hugging Face model alone; its content enters the key.
    """
    kind = entry(model).kind
    options = _options(kind, label_map)
    checkpoint = weights_file(model, weights, workspace=terminal.workspace.root)
    parts = weights_parts(kind, checkpoint, options)
    index = index_step(terminal.workspace, dataset)
    return requests.maps(
        index,
        model=kind,
        weights=checkpoint,
        parts=parts,
        flip=flip,
        scales=scales,
        options=options,
    )


def _options(kind: str, label_map: Path | None) -> dict[str, Any]:
    if label_map is None:
        return {}
    if kind != KIND:
        raise ReidpipeError(
            f"found --label-map for parser '{kind}'; expected it beside --model hf:FOLDER or "
            "hf:OWNER/NAME, whose labels have names; leave it out"
        )
    return {"label_map": read_label_map(label_map)}


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or min(scales) <= 0:
        raise ReidpipeError(
            f"found scales '{text}'; expected positive numbers; type --scales 0.75,1.0"
        )
    return scales
