"""``reidpipe parse``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from parsing_models.parsers import hub
from parsing_models.parsers.catalogue import (
    EXACT,
    as_trained,
    check_scales,
    entry,
    weights_file,
    weights_parts,
)
from parsing_models.parsers.label_names import read_label_map
from parsing_models.parsers.typed import CENTRE_PERSON, OF_MAPS, amounts, damaged_name, typed
from parsing_models.telling import (
    told_comparison,
    told_maps,
    told_preview,
    told_scores,
)
from pipeline.artifacts import graph, requests
from pipeline.artifacts.steps import Step
from pipeline.datasets.catalogue import defined, load_manifest
from pipeline.datasets.sources import GENERATED, index_step
from pipeline.datasets.withheld import allowed
from pipeline.terminal.commandline import CONTEXT, DEVICE, JOBS, LABEL_MAP, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.options import read_option
from pipeline.terminal.paths import TypedPath

DEFAULT_PARSER = "schp-tiny"
PRECISIONS = ("fp32", "bf16", "fp16")


@click.command(context_settings=CONTEXT)
@click.argument("dataset", default=GENERATED)
@click.option(
    "--model", metavar="NAME[:OPTION=VALUE]", help=f"Parser.  [default: {DEFAULT_PARSER}]"
)
@click.option("--weights", type=TypedPath(), help="Checkpoint of --model.")
@LABEL_MAP
@click.option(
    "--option",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of --model: semantic_weight=0.8 (solider), upscale=false (invpt), label_set=cihp (schp), "
    "missing=0.5 (any).",
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
    from the parser's; train reads them with --parsing-option M centre_person=true. exact is the
    dataset's own maps; flipped, borders, missing, exchanged damage those of any parser.

    \b
    Example: reidpipe parse col780 --model schp-tiny
    Example: reidpipe parse mannequins --score --preview
    Example: reidpipe parse mannequins --compare schp-tiny schp
    Example: reidpipe parse mannequins --model exact:borders=2:flipped=0.1 --score
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
    index = index_step(terminal.workspace, dataset, make=terminal.make)
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
        found = told_maps(terminal, dataset, kind, maps[kind], outcome)
        if kind in scores:
            found["score"] = told_scores(terminal, scores[kind])
        if kind in previews:
            found["preview"] = told_preview(terminal, dataset, kind, previews[kind])
        parsers.append(found)
    result = {"dataset": dataset, **(parsers[0] if len(parsers) == 1 else {"parsers": parsers})}
    if comparison:
        result["compare"] = told_comparison(terminal, dataset, comparison)
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

    model: as ``typed``. label_map: read for a Hugging Face model alone, into whose key its content
    enters. settings: options of ``load_parser`` as ``NAME=VALUE``; or of maps, whichever parser
    made them: ``centre_person=true`` for the central body alone, and amounts of damage. option:
    with which the command names the parser.
    """
    kind, beside = typed(model)
    found = entry(kind, option=option)
    # A file's path would enter the key without its content: that is what --label-map is for.
    known = {name: value for name, value in found.options.items() if name != "label_map"}
    known |= OF_MAPS
    given = (read_option(text, known, of=f"parser '{kind}'") for text in (*beside, *settings))
    options = dict(given)
    of_maps = {name: options.pop(name) for name in OF_MAPS if name in options}
    if found.kind == EXACT:
        asked = {"--weights": weights is not None, "--flip": flip, "--scales": scales != (1.0,)}
        made = _exact(index, options, asked | {"--precision": precision != "fp32"})
    else:
        if label_map is not None and found.kind == hub.KIND:
            options["label_map"] = read_label_map(label_map)
        checkpoint = weights_file(kind, weights, workspace=terminal.workspace.root, option=option)
        options = as_trained(found.kind, checkpoint, options)
        one_sided = False
        if hub.is_hub(kind) and checkpoint is not None:
            saved = hub.read(checkpoint)
            check_scales(scales, one_size=saved.name if saved.one_size else "")
            one_sided = flip and saved.one_sided(options)
        made = requests.maps(
            index,
            model=found.kind,
            weights=checkpoint,
            parts=weights_parts(found.kind, checkpoint, options),
            flip=flip,
            scales=scales,
            options=options,
            precision=precision,
            one_sided=one_sided,
        )
    if of_maps.get(CENTRE_PERSON):
        made = requests.centred(made)
    damage = amounts(of_maps)
    name = damaged_name(made.params["model"], damage)
    return requests.damaged(made, damage, name=name) if damage else made


def _exact(index: Step, options: Mapping[str, Any], asked: Mapping[str, bool]) -> Step:
    """The label maps that the dataset came with. asked: options of commands about a network."""
    from parsing_models.parsers.exact import label_set_of

    if typed_too := [name for name, was in asked.items() if was]:
        raise ReidpipeError(
            f"found {typed_too[0]} for parser '{EXACT}', which has no network; expected the "
            "dataset's maps as they are; leave it out"
        )
    dataset = index.params["dataset"]
    manifest = defined(dataset, index.params.get("definition"))
    known = manifest.label_set if manifest is not None else None
    return requests.exact(index, truth=label_set_of(dataset, known, options.get("label_set")))


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
    found = [entry(typed(kind)[0], option=option).kind for kind in kinds]
    if label_map is not None and hub.KIND not in found:
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
