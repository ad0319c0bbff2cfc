"""``reidpipe parse``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from parsing_models.parsers.catalogue import check_scales, entry, weights_file, weights_parts
from parsing_models.parsers.hub import KIND
from parsing_models.parsers.label_names import read_label_map
from pipeline.artifacts import graph, requests
from pipeline.artifacts.atomic import replacing
from pipeline.artifacts.graph import Outcome
from pipeline.artifacts.steps import Step
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.sources import GENERATED, index_step
from pipeline.datasets.withheld import allowed
from pipeline.terminal.commandline import CONTEXT, DEVICE, JOBS, LABEL_MAP, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.options import FLAG, read_option
from pipeline.terminal.paths import TypedPath
from pipeline.terminal.tables import format_table

DEFAULT_PARSER = "schp-tiny"
CENTRE_PERSON = "centre_person"
PRECISIONS = ("fp32", "bf16", "fp16")


@click.command(context_settings=CONTEXT)
@click.argument("dataset", default=GENERATED)
@click.option("--model", help=f"Parser.  [default: {DEFAULT_PARSER}]")
@click.option("--weights", type=TypedPath(), help="Checkpoint of --model.")
@LABEL_MAP
@click.option(
    "--option",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of --model: semantic_weight=0.8 (solider), upscale=false (invpt), label_set=cihp (schp).",
)
@JOBS
@DEVICE
@click.option("--flip", is_flag=True, help="Average with the mirrored image.")
@click.option("--scales", default="1.0", show_default=True, help="Input scales, comma-separated.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of the network; agreement with fp32 on the first images is reported.",
)
@click.option("--centre-person", is_flag=True, help="Of two bodies the central one alone.")
@click.option("--workers", type=click.IntRange(1), help="Batches side by side.  [default: cores]")
@click.option("--score", "with_scores", is_flag=True, help="IoU against the dataset's truth.")
@click.option("--compare", "pair", nargs=2, metavar="A B", help="Agreement of two parsers.")
@click.option("--preview", "with_preview", is_flag=True, help="Overlays and a sheet, as PNG.")
@json_option
def parse(
    terminal: Terminal,
    dataset: str,
    model: str | None,
    weights: Path | None,
    label_map: Path | None,
    settings: tuple[str, ...],
    device: str,
    flip: bool,
    scales: str,
    precision: str,
    centre_person: bool,
    workers: int | None,
    with_scores: bool,
    pair: tuple[str, str] | None,
    with_preview: bool,
) -> None:
    """Cache label maps and confidence of all images of DATASET in HDF5.

    A killed run continues with what is missing. With --compare the maps of A and B are made, and of
    --model only where it is typed; --weights belongs to --model, the others' weights are looked up.
    --device cuda uses every GPU of the machine, cuda:0 one. --centre-person makes maps of its own
    from the parser's; train reads them with --parsing-option M centre_person=true.

    \b
    Example: reidpipe parse col780 --model schp-tiny
    Example: reidpipe parse mannequins --score --preview
    Example: reidpipe parse mannequins --compare schp-tiny schp
    """
    # Not above: who asks for maps alone, as a demo does, needs none of it.
    from parsing_models.preview import IMAGES
    from parsing_models.scoring import check_truth
    from pipeline.datasets.index import read_index

    terminal.workspace.writable()
    kinds = _parsers(model, pair, weights=weights, settings=settings, label_map=label_map)
    if with_preview and not allowed(load_manifest(dataset)):
        raise ReidpipeError(
            f"found --preview for {dataset}, whose images were withdrawn by their publisher and "
            f"are never shown; expected another dataset; type `reidpipe parse {dataset}` without it"
        )
    index = index_step(terminal.workspace, dataset)
    centring = (f"{CENTRE_PERSON}=true",) if centre_person else ()
    maps = {
        kind: maps_step(
            terminal,
            index,
            kind,
            weights=weights if kind == (model or DEFAULT_PARSER) else None,
            label_map=label_map,
            settings=(settings if kind == (model or DEFAULT_PARSER) else ()) + centring,
            flip=flip,
            scales=_scales(scales),
            precision=precision,
        )
        for kind in kinds
    }
    truth = load_manifest(dataset).label_set
    scores = {k: requests.scores(index, maps[k], truth=truth) for k in kinds if with_scores}
    previews = {
        k: requests.preview(index, maps[k], name=k, images=IMAGES) for k in kinds if with_preview
    }
    comparison = None
    if pair:
        comparison = requests.comparison(index, *(maps[kind] for kind in pair), names=pair)
    targets = [*maps.values(), *scores.values(), *previews.values()]
    targets += [comparison] if comparison else []
    execution = terminal.execution(device=device, workers=workers)

    def check() -> None:
        # Hours of parsing must not end in the news that there is nothing to score against.
        if graph.missing(terminal.workspace, scores.values()):
            check_truth(read_index(terminal.workspace.folder(index)), truth)

    outcome = graph.run_checked(
        terminal.workspace,
        targets,
        execution,
        first=[index],
        check=check,
        announce=terminal.announce,
    )

    parsers = []
    for kind in kinds:
        found = _told_maps(terminal, dataset, kind, maps[kind], outcome)
        if kind in scores:
            found["score"] = _told_scores(terminal, _summary(terminal, scores[kind]))
        if kind in previews:
            found["preview"] = _told_preview(terminal, dataset, kind, previews[kind])
        parsers.append(found)
    result = {"dataset": dataset, **(parsers[0] if len(parsers) == 1 else {"parsers": parsers})}
    if comparison:
        result["compare"] = _told_comparison(terminal, dataset, comparison)
    terminal.told(outcome)
    terminal.result(result)


def maps_step(
    terminal: Terminal,
    index: Step,
    model: str = DEFAULT_PARSER,
    *,
    weights: Path | None = None,
    label_map: Path | None = None,
    settings: tuple[str, ...] = (),
    flip: bool = False,
    scales: tuple[float, ...] = (1.0,),
    precision: str = "fp32",
    option: str = "--model",
) -> Step:
    """The label-map step of a dataset's index and a parser, whose weights must be there.

    label_map: read for a Hugging Face model alone, into whose key its content enters. settings:
    options of ``load_parser`` as ``NAME=VALUE``, or ``centre_person=true``, which asks for the maps
    with the central body alone. option: with which the command names the parser.
    """
    found = entry(model, option=option)
    # A file's path would enter the key without its content: that is what --label-map is for.
    known = {name: value for name, value in found.options.items() if name != "label_map"}
    known[CENTRE_PERSON] = FLAG
    options = dict(read_option(text, known, of=f"parser '{model}'") for text in settings)
    centre_person = options.pop(CENTRE_PERSON, False)
    if label_map is not None and found.kind == KIND:
        options["label_map"] = read_label_map(label_map)
    checkpoint = weights_file(model, weights, workspace=terminal.workspace.root, option=option)
    parts = weights_parts(found.kind, checkpoint, options)
    made = requests.maps(
        index,
        model=found.kind,
        weights=checkpoint,
        parts=parts,
        flip=flip,
        scales=scales,
        options=options,
        precision=precision,
    )
    return requests.centred(made) if centre_person else made


def _parsers(
    model: str | None,
    pair: tuple[str, str] | None,
    *,
    weights: Path | None,
    settings: tuple[str, ...],
    label_map: Path | None,
) -> list[str]:
    """The parsers whose maps are asked for, each once; mistakes in the options about them."""
    kinds = [model] if model else []
    kinds += [kind for kind in pair or () if kind not in kinds]
    kinds = kinds or [DEFAULT_PARSER]
    if pair and pair[0] == pair[1]:
        raise ReidpipeError(
            f"found parser '{pair[0]}' twice; expected two different ones; "
            "type --compare schp-tiny schp"
        )
    of_model = [f"--weights {weights}"] * (weights is not None)
    of_model += [f"--option {text}" for text in settings]
    if pair and of_model and model is None:
        raise ReidpipeError(
            f"found {of_model[0]} with two parsers; expected --model to say which of them it "
            f"belongs to; type --model {pair[0]} {of_model[0]}"
        )
    check_parsers(kinds, label_map, option="--model")
    return kinds


def parsers_of(
    terminal: Terminal,
    kinds: Sequence[str],
    label_map: Path | None = None,
    settings: Sequence[tuple[str, str]] = (),
) -> Callable[[Step, str], Step]:
    """What gives the label maps of an index by one of ``kinds``, the parsers of ``--parsing``, each
    with its own ``settings`` (parser, ``NAME=VALUE``). Raises ReidpipeError for what there is not.
    """
    check_parsers(kinds, label_map, option="--parsing")
    chosen = options_of(kinds, settings)

    def label_maps(index: Step, kind: str) -> Step:
        return maps_step(
            terminal,
            index,
            kind,
            label_map=label_map,
            settings=chosen[kind],
            option="--parsing",
        )

    return label_maps


def check_parsers(kinds: Sequence[str], label_map: Path | None, *, option: str) -> None:
    """Raises ReidpipeError for a parser that there is not, whether its maps will be read or not,
    and for a ``--label-map`` that none of them reads. option: with which they are named.
    """
    found = [entry(kind, option=option).kind for kind in kinds]
    if label_map is not None and KIND not in found:
        raise ReidpipeError(
            f"found --label-map for parser '{kinds[0]}'; expected it beside {option} hf:FOLDER or "
            "hf:OWNER/NAME, whose labels have names; leave it out"
        )


def options_of(
    kinds: Sequence[str], settings: Sequence[tuple[str, str]]
) -> dict[str, tuple[str, ...]]:
    """Parser -> its options, from pairs (parser, ``NAME=VALUE``). Raises ReidpipeError for a parser
    that is not among ``kinds``."""
    chosen: dict[str, tuple[str, ...]] = dict.fromkeys(kinds, ())
    for kind, text in settings:
        if kind not in chosen:
            raise ReidpipeError(
                f"found --parsing-option {kind} {text}{nearest(kind, chosen)}; expected one of the "
                f"parsers {', '.join(chosen)}; type --parsing-option {kinds[0]} {text}"
            )
        chosen[kind] += (text,)
    return chosen


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ReidpipeError(
            f"found scales '{text}'; expected numbers; type --scales 0.75,1.0"
        ) from error
    check_scales(scales)
    return scales


def _summary(terminal: Terminal, step: Step) -> dict[str, Any]:
    return dict(terminal.workspace.provenance(step)["summary"])


def _told_maps(
    terminal: Terminal, dataset: str, kind: str, step: Step, outcome: Outcome
) -> dict[str, Any]:
    from parsing_models.bodies import FINDINGS
    from pipeline.datasets.layouts.rows import shortened

    folder, parsed = terminal.workspace.folder(step), step.inputs.get("maps", step)
    summary = _summary(terminal, parsed)
    terminal.say(f"{summary['images']} maps of {dataset} by {kind} in {folder}")
    if parsed in outcome.made:
        terminal.say(f"  {summary['seconds']:.1f} s, {summary['images_per_s']:.1f} images/s")
    if summary.get("same_as_fp32") is not None:
        terminal.say(
            f"  {parsed.params['precision']}: {summary['same_as_fp32']:.2%} of the labels of the "
            "first images as in fp32"
        )
    findings = {**FINDINGS, "failed": "not parsed"}
    for name, text in findings.items():
        if summary.get(name):
            count = len(summary[name])
            images = "images" if count > 1 else "image"
            terminal.say(f"  warning: {count} {images} {text}: {shortened(summary[name], 5)}")
    unknown = [text for name, text in findings.items() if name not in summary]
    if unknown:
        terminal.say(
            f"  an older version made these maps and did not count images {', '.join(unknown)}"
        )
    found = {
        "counts": {name: len(summary[name]) for name in findings if name in summary},
        **({"centred": _summary(terminal, step)["changed"]} if parsed is not step else {}),
    }
    if parsed is not step:
        terminal.say(f"  the central body alone is kept of {len(found['centred'])} images")
    return {"model": kind, "folder": str(folder), **summary, **found}


def _told_scores(terminal: Terminal, scores: dict[str, Any]) -> dict[str, Any]:
    terminal.say(
        f"  mean IoU {100 * scores['mIoU']:.1f} %, pixel accuracy "
        f"{100 * scores['pixel_accuracy']:.1f} %, {scores['images']} images"
    )
    if scores["without_map"]:
        terminal.say(f"  warning: {scores['without_map']} images with truth have no map")
    terminal.say(_classes(scores, ("IoU %", "iou"), ("of the truth %", "share")))
    terminal.say(f"  {scores['protocol']}")
    return scores


def _told_preview(terminal: Terminal, dataset: str, kind: str, step: Step) -> dict[str, Any]:
    from parsing_models.preview import SHEET

    folder = terminal.workspace.folder(step)
    sheet = _report(terminal, folder / SHEET, "labels", dataset, kind, step.key[:6])
    terminal.say(f"  preview: {sheet}; single images in {folder / 'overlays'}")
    overlays = [str(folder / name) for name in _summary(terminal, step)["overlays"]]
    return {"sheet": str(sheet), "overlays": overlays}


def _told_comparison(terminal: Terminal, dataset: str, step: Step) -> dict[str, Any]:
    from parsing_models.comparison import SHEET

    found = _summary(terminal, step)
    first, second = found["first"], found["second"]
    sheet = _report(
        terminal,
        terminal.workspace.folder(step) / SHEET,
        *("compare", dataset, first, second, step.key[:6]),
    )
    terminal.say(
        f"{first} and {second} agree on {100 * found['pixel_accuracy']:.1f} % of the pixels of "
        f"{found['images']} images, labels of {found['label_set']}"
    )
    if found["only_one"]:
        terminal.say(f"  warning: {found['only_one']} images have a map of one of them only")
    terminal.say(_classes(found, ("agreement (IoU) %", "iou")))
    for worst in found["most_different"][:5]:
        terminal.say(f"  {100 * worst['equal']:.1f} % equal: {worst['key']}")
    terminal.say(f"  sheet: {sheet}")
    return {**found, "sheet": str(sheet)}


def _classes(found: Mapping[str, Any], *columns: tuple[str, str]) -> str:
    """A table of the classes that occur, in per cent; columns: title and name of the values."""
    from pipeline.labels.garments import SCORED

    rows = []
    for name in SCORED[found["label_set"]].names:
        if found["iou"][name] is not None:
            numbers = {title: 100 * found[values][name] for title, values in columns}
            rows.append({"class": name, **numbers})
    return format_table(rows, ["class", *(title for title, _ in columns)])


def _report(terminal: Terminal, picture: Path, *words: str) -> Path:
    """A picture of an artifact copied to where people look for it."""
    name = "-".join(re.sub(r"[^\w.]+", "_", word).strip("_") for word in words)
    target = terminal.workspace.root / "reports" / f"{name}.png"
    with replacing(target) as temporary:
        shutil.copyfile(picture, temporary)
    return target
