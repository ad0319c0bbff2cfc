"""``reidpipe prepare`` and ``reidpipe datasets``."""

from __future__ import annotations

from functools import partial, reduce
from pathlib import Path
from typing import Any

import click

from pipeline.artifacts import graph, requests
from pipeline.artifacts.graph import Outcome
from pipeline.datasets.catalogue import list_manifests, load_manifest
from pipeline.datasets.check import as_warnings, error_lines, refusal
from pipeline.datasets.index import root_of
from pipeline.datasets.layouts.own.classes import OF_CLASSES
from pipeline.datasets.manifest import Manifest
from pipeline.datasets.registration import allow
from pipeline.datasets.sources import GENERATED, index_step
from pipeline.datasets.variants import JOINT
from pipeline.terminal.commandline import CONTEXT, JOBS, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.paths import TypedPath
from pipeline.terminal.tables import format_table


@click.command(context_settings=CONTEXT)
@click.argument("dataset", default=GENERATED)
@click.option("--root", type=TypedPath(), help="Folder (or CSV) with your copy.")
@click.option("--archive", type=TypedPath(), help="Published archive you fetched.")
@click.option(
    "--rule",
    help="Naming rule for images of your own: a regular expression with groups pid, camid, view, "
    "frame, seq, on the file name, or on the path if it has a /; 'none': names say nothing.",
)
@click.option(
    "--holdout",
    metavar="SHARE|N",
    help="People of your own images drawn for the test: 0.3 is a share, 20 a number.",
)
@click.option("--seed", type=click.IntRange(0), help="Seed of --holdout.  [default: 0]")
@click.option(
    "--allow-mismatch", is_flag=True, help="Use a dataset with errors as it is; they are warnings."
)
@click.option("--size", metavar="HxW", help="Size of the packed pixels.  [default: the dataset's]")
@click.option(
    "--filter",
    "filter",
    type=click.Choice(["bicubic", "bilinear"]),
    default="bicubic",
    show_default=True,
    help="Resize filter of the packed pixels.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: all cores]")
@JOBS
@json_option
def prepare(
    terminal: Terminal,
    dataset: str,
    root: Path | None,
    archive: Path | None,
    rule: str | None,
    holdout: str | None,
    seed: int | None,
    allow_mismatch: bool,
    size: str | None,
    filter: str,
    workers: int | None,
) -> None:
    """Fetch where the licence allows, verify, unpack, index, check and pack DATASET.

    A dataset that is not what was published, or cannot be evaluated, is refused (exit code 2)
    before it is packed, unless --allow-mismatch is given. What differs stays in artifact.json of
    its index.

    Without DATASET: generated people (mannequins). Example: reidpipe prepare market1501 --root DIR
    """
    manifest = load_manifest(dataset)
    if seed is not None and holdout is None:
        raise ReidpipeError(
            "found --seed and nothing to draw; expected it beside --holdout; type --holdout 0.3"
        )
    terminal.workspace.writable()
    notice = f"{manifest.title}: {manifest.notice}" if manifest.notice else None
    # Whoever may fetch reads it first; a mistake of all others is told in one line.
    fetches = manifest.policy == "direct" and root is None and archive is None
    if manifest.id == GENERATED:
        options = {"--root": root, "--archive": archive, "--rule": rule, "--holdout": holdout}
        if given := [name for name, value in options.items() if value is not None]:
            raise ReidpipeError(
                f"found {' and '.join(given)} for {manifest.id}; expected neither, its images are "
                f"generated; type reidpipe prepare {manifest.id}"
            )
    else:
        from pipeline.datasets.layouts.own import Holdout
        from pipeline.datasets.roots import prepare_root

        people = Holdout.parse(holdout, seed or 0) if holdout is not None else None
        if notice and fetches:
            terminal.note(notice)
        prepare_root(
            dataset,
            terminal.workspace.root,
            root=root,
            archive=archive,
            rule=rule,
            holdout=people,
            progress=terminal.draws,
        )
    make = partial(terminal.make, workers=workers)
    compared: list[Outcome] = []
    index = index_step(
        terminal.workspace,
        dataset,
        make=lambda step: compared.append(make(step)),
        as_it_is=True,  # what is wrong with it is told below, at length
    )
    height, width = _size(size) if size else manifest.input_size or (256, 128)
    packed = requests.images(index, size=(height, width), filter=filter)
    execution = terminal.execution(workers=workers)
    indexed = reduce(Outcome.after, compared, make(index))
    if notice and not fetches:
        terminal.note(notice)
    summary = terminal.workspace.provenance(index)["summary"]
    if allow_mismatch:
        if manifest.id != GENERATED:
            allow(manifest, terminal.workspace.root, error_lines(summary))
        summary = as_warnings(summary)
    if errors := error_lines(summary):
        _tell(terminal, summary)
        raise refusal(errors, manifest.typed)
    outcome = graph.run(
        terminal.workspace, [index, packed], execution, announce=terminal.announce
    ).after(indexed)
    _tell(terminal, summary)
    if "root" in summary:
        summary = {**summary, "root": str(root_of(terminal.workspace.folder(index)))}
    classes = manifest.kind == "classification" or summary.get("layout") == OF_CLASSES
    if manifest.is_own and not classes:
        advice = advice_on(manifest.typed, summary["counts"])
        if advice is not None:
            terminal.say(advice)
    terminal.told(outcome)
    terminal.result(
        {
            "dataset": manifest.dataset,
            **summary,
            "index": str(terminal.workspace.folder(index)),
            "images_folder": str(terminal.workspace.folder(packed)),
            "made": [step.key for step in outcome.made],
        }
    )


def _tell(terminal: Terminal, summary: dict[str, Any]) -> None:
    terminal.say(format_table(summary["counts"], ["subset", "ids", "images", "cameras"]))
    for line in summary["lines"]:
        terminal.say(line)


def advice_on(dataset: str, counts: list[dict[str, Any]]) -> str | None:
    """What to type next where images of one's own cannot be evaluated yet; None: they can.

    counts: ``subset, ids, images, cameras`` per split.
    """
    subsets = {row["subset"]: row for row in counts}
    if subsets.keys() & {"query", "gallery"} or "train" not in subsets:
        return None
    if not subsets["train"]["ids"]:
        return "no identities: train a label-free recipe (reidpipe recipes --for label-free)"
    return (
        "no query and gallery, so a model can be trained and not evaluated; to hold people out "
        f"for a test type reidpipe prepare {dataset} --holdout 0.3"
    )


@click.command(context_settings=CONTEXT)
@click.argument("dataset", required=False)
@json_option
def datasets(terminal: Terminal, dataset: str | None) -> None:
    """All datasets with licence and counts, or everything known about one.

    Example: reidpipe datasets market1501
    """
    if dataset is not None:
        _describe(terminal, load_manifest(dataset))
        return
    manifests = list_manifests()
    rows = [_row(manifest) for manifest in manifests]
    terminal.say(
        format_table(rows, ["dataset", "kind", "policy", "train", "query", "gallery", "licence"])
    )
    terminal.say(
        "\npolicy: direct = reidpipe fetches it; manual, request = you fetch it, then type "
        "reidpipe prepare ID --root DIR\nor --archive FILE; never = withdrawn, only your own copy. "
        "Citations: reidpipe datasets ID"
    )
    terminal.result([_plain(manifest) for manifest in manifests])


def _describe(terminal: Terminal, manifest: Manifest) -> None:
    terminal.say(f"{manifest.title} ({manifest.dataset}, {manifest.kind}, {manifest.year})")
    for name in ("licence", "policy", "homepage", "terms_url", "notice"):
        if getattr(manifest, name):
            terminal.say(f"{name}: {getattr(manifest, name)}")
    for text in manifest.citation:
        terminal.say(f"cite: {text}")
    if manifest.variants:
        names = ", ".join(f"{manifest.id}:{variant}" for variant in manifest.variants)
        terminal.say(f"variants: {names}")
    if manifest.variants_join and len(manifest.variants) > 1:
        first, last = manifest.variants[0], manifest.variants[-1]
        terminal.say(f"variants join: {manifest.id}:{JOINT.join((first, last))} is both")
    if manifest.generated:
        told = ", ".join(f"{name} {value}" for name, value in manifest.generated.items())
        terminal.say(f"drawn with: {told}")
    for protocol in manifest.protocols:
        terminal.say(f"protocol {protocol.name} (exclude {protocol.exclude}): {protocol.note}")
    terminal.result(_plain(manifest))


def _plain(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(mode="json", exclude={"layouts", "assign"})


def _row(manifest: Manifest) -> dict[str, Any]:
    row: dict[str, Any] = {
        "dataset": manifest.id,
        "kind": manifest.kind,
        "policy": manifest.policy,
        "licence": manifest.licence
        if len(manifest.licence) < 48
        else manifest.licence[:45] + "...",
    }
    for split in ("train", "query", "gallery"):
        counts = manifest.counts.get(split)
        if counts is not None and counts.images is not None:
            ids = f"{counts.ids.one_of[0]}/" if counts.ids is not None else ""
            row[split] = f"{ids}{counts.images.one_of[0]}"
    return row


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    # isdigit alone lets ² through, isdecimal digits of other scripts.
    if not all(
        side.isascii() and side.isdecimal() and len(side) <= 5 and int(side)
        for side in (height, width)
    ):
        raise ReidpipeError(
            f"found size '{text}'; expected HEIGHTxWIDTH, five digits each at most; "
            "type --size 256x128"
        )
    return int(height), int(width)
