"""``reidpipe report``: pages that show runs side by side."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import click

from pipeline.artifacts import graph, requests
from pipeline.artifacts.checked import read_json
from pipeline.artifacts.runs import find_run, list_runs
from pipeline.artifacts.steps import Step
from pipeline.terminal.commandline import CONTEXT, DEVICE, JOBS, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.tables import format_table
from reid_train.evaluation.results import check_evaluable, evaluation_step


@click.command(context_settings=CONTEXT)
@click.argument("runs", nargs=-1, required=True)
@click.option("--title", help="Above the page.  [default: the runs' names]")
@click.option("--date", help="Below the title: any text, or today.  [default: none]")
@JOBS
@DEVICE
@json_option
def report(
    terminal: Terminal, runs: tuple[str, ...], title: str | None, date: str | None, device: str
) -> None:
    """One self-contained HTML page for one run or a comparison of several.

    Each run is evaluated under its dataset's first protocol. When one of them read label maps of
    the first one's dataset, their features by body part are drawn and measured too. A page bears
    a date only if it is given one, so that the same command gives the same page.
    Example: reidpipe report baseline-tiny pi-vl-tiny --title "Tiny models" --date today
    """
    title = _one_line(title, "--title 'Tiny models'")
    date = _one_line(date, "--date today")
    if date == "today":
        date = datetime.date.today().isoformat()
    known = list_runs(terminal.workspace)
    found = [find_run(terminal.workspace, reference, known) for reference in runs]
    steps = [evaluation_step(terminal, run.model) for run in found]
    named = title or " / ".join(run.name for run in found)
    page = report_step(terminal, named, steps, shared_maps(steps), date=date)

    def check() -> None:
        for run, step in zip(found, steps, strict=True):
            check_evaluable(terminal.workspace, step, run=run.name)

    outcome = graph.run_checked(
        terminal.workspace,
        [page],
        terminal.execution(device=device),
        first=[step.inputs["index"] for step in steps],
        check=check,
        announce=terminal.announce,
    )
    terminal.told(outcome)
    terminal.say(f"report {report_page(terminal, page)}")
    parts = terminal.workspace.folder(page) / "parts.json"
    measured = read_json(parts) if parts.is_file() else None
    if measured is not None:
        terminal.say(format_table(_part_rows(measured["runs"]), _PART_COLUMNS))
        terminal.say(measured["protocol"])
    terminal.result({"report": report_page(terminal, page), "parts": measured})


_PART_COLUMNS = ["run", "map", "silhouette", "groups", "same_identity", "other_identity", "gap"]


def _part_rows(runs: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"run": run, "map": name}
        | {column: _thousandths(found[column]) for column in _PART_COLUMNS[2:]}
        for run, maps in runs.items()
        for name, found in maps.items()
    ]


def _thousandths(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def shared_maps(evaluations: Sequence[Step]) -> Step | None:
    """The label maps of a report on ``evaluations``: those of the first one's dataset that a model
    read, if one did.
    """
    index = evaluations[0].inputs["index"].key
    for step in evaluations:
        maps = requests.maps_read(step.inputs["model"])
        if maps is not None and requests.index_of(maps).key == index:
            return maps
    return None


def report_step(
    terminal: Terminal,
    title: str,
    evaluations: Sequence[Step],
    label_maps: Step | None = None,
    *,
    date: str | None = None,
) -> Step:
    """``requests.report`` with the curves of the stages that this workspace has, or is about to
    make for the runs: what was removed is not trained again for a curve.
    """
    workspace = terminal.workspace
    needed = [*evaluations, *(step.inputs["model"] for step in evaluations)]
    planned = {step.key for step in graph.missing(workspace, needed)}
    return requests.report(
        title,
        evaluations,
        label_maps,
        date=date,
        kept=lambda stage: stage.key in planned or workspace.complete(stage),
    )


def _one_line(text: str | None, example: str) -> str | None:
    """``text``; example: what could be typed instead."""
    if text is not None and (not text.strip() or not text.isprintable()):
        option = example.partition(" ")[0]
        raise ReidpipeError(f"found {option} {text!r}; expected one line of text; type {example}")
    return text


def report_page(terminal: Terminal, step: Step) -> str:
    """Path of the page a report step wrote."""
    return str(terminal.workspace.folder(step) / "report.html")
