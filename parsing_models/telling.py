"""What ``reidpipe parse`` says of maps, scores, pictures and agreement, and has as JSON."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.atomic import replacing
from pipeline.artifacts.graph import Outcome
from pipeline.artifacts.steps import Step
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.printable import shortened
from pipeline.terminal.tables import format_table

if TYPE_CHECKING:
    from pipeline.labels.sets import LabelSet


def summary_of(terminal: Terminal, step: Step) -> dict[str, Any]:
    """What the worker of a finished step returned."""
    return dict(terminal.workspace.provenance(step)["summary"])


def told_maps(
    terminal: Terminal, dataset: str, kind: str, step: Step, outcome: Outcome
) -> dict[str, Any]:
    """How many, how fast, and which of them look odd. step: "maps" or "exact", or what was made of
    it by "centred" and "damaged".
    """
    from parsing_models.bodies import FINDINGS

    folder, parsed, made_of_it = terminal.workspace.folder(step), step, {}
    while "maps" in parsed.inputs:
        made_of_it[parsed.name] = parsed
        parsed = parsed.inputs["maps"]
    summary = summary_of(terminal, parsed)
    terminal.say(f"{summary['images']} maps of {dataset} by {kind} in {folder}")
    if parsed in outcome.made:
        terminal.say(f"  {summary['seconds']:.1f} s, {summary['images_per_s']:.1f} images/s")
    if summary.get("computed_in") is not None:
        terminal.say(
            f"  computed in {summary['computed_in']}: the CPU had no units for "
            f"{parsed.params['precision']}, which would take several times as long"
        )
    elif summary.get("same_as_fp32") is not None:
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
    unknown = [text for name, text in findings.items() if summary.get(name) is None]
    if unknown:
        terminal.say(
            f"  an older version made these maps and did not count images {', '.join(unknown)}"
        )
    found: dict[str, Any] = {
        "counts": {name: len(summary[name]) for name in findings if summary.get(name) is not None},
    }
    if "centred" in made_of_it:
        found["centred"] = summary_of(terminal, made_of_it["centred"])["changed"]
        terminal.say(f"  the central body alone is kept of {len(found['centred'])} images")
    if "damaged" in made_of_it:
        damage = made_of_it["damaged"]
        equal = summary_of(terminal, damage)["equal"]
        found["damaged"] = {**damage.params["amounts"], "equal": equal}
        told = ", ".join(f"{name} {amount:g}" for name, amount in damage.params["amounts"].items())
        terminal.say(f"  damaged ({told}): {equal:.1%} of the labels are as before")
    return {"model": kind, "folder": str(folder), **summary, **found}


def told_scores(terminal: Terminal, step: Step) -> dict[str, Any]:
    """IoU against the truth, by class."""
    scores = summary_of(terminal, step)
    terminal.say(
        f"  mean IoU {100 * scores['mIoU']:.1f} %, pixel accuracy "
        f"{100 * scores['pixel_accuracy']:.1f} %, {scores['images']} images"
    )
    if scores["without_map"]:
        terminal.say(f"  warning: {scores['without_map']} images with truth have no map")
    terminal.say(
        _classes(
            scores,
            _set_of(terminal, step.inputs["maps"]),
            ("IoU %", "iou"),
            ("of the truth %", "share"),
        )
    )
    terminal.say(f"  {scores['protocol']}")
    return scores


def told_preview(terminal: Terminal, dataset: str, kind: str, step: Step) -> dict[str, Any]:
    """Where the overlays are; the sheet lies among the reports too."""
    from parsing_models.preview import SHEET

    folder = terminal.workspace.folder(step)
    sheet = _report(terminal, folder / SHEET, "labels", dataset, kind, step.key[:6])
    terminal.say(f"  preview: {sheet}; single images in {folder / 'overlays'}")
    overlays = [str(folder / name) for name in summary_of(terminal, step)["overlays"]]
    return {"sheet": str(sheet), "overlays": overlays}


def told_comparison(terminal: Terminal, dataset: str, step: Step) -> dict[str, Any]:
    """How far two parsers agree, and on which images least."""
    from parsing_models.comparison import SHEET

    found = summary_of(terminal, step)
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
    terminal.say(
        _classes(found, _set_of(terminal, step.inputs["first"]), ("agreement (IoU) %", "iou"))
    )
    for worst in found["most_different"][:5]:
        terminal.say(f"  {100 * worst['equal']:.1f} % equal: {worst['key']}")
    terminal.say(f"  sheet: {sheet}")
    return {**found, "sheet": str(sheet)}


def _set_of(terminal: Terminal, label_maps: Step) -> LabelSet:
    from pipeline.labels.maps import LabelMapReader

    return LabelMapReader(terminal.workspace.folder(label_maps)).label_set


def _classes(found: Mapping[str, Any], maps: LabelSet, *columns: tuple[str, str]) -> str:
    """A table of the classes that occur, in per cent; columns: title and name of the values. maps:
    the label set of the maps, which is the set they are scored in or one that leads to it; of a
    plugin nobody else knows it.
    """
    from pipeline.labels.garments import SCORED

    rows = []
    own = set(maps.names) == found["iou"].keys()
    for name in (maps if own else SCORED[found["label_set"]]).names:
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
