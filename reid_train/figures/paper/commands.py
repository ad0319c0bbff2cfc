"""``reidpipe figure``: a figure of runs for a paper."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pipeline.artifacts import graph
from pipeline.artifacts.graph import Outcome
from pipeline.artifacts.runs import Run, find_run, list_runs
from pipeline.artifacts.steps import Step
from pipeline.datasets.index import read_index
from pipeline.datasets.withheld import pictures_allowed
from pipeline.terminal.commandline import CONTEXT, DEVICE, JOBS, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.paths import TypedPath, check_out
from pipeline.terminal.publishing import latex_text
from reid_train.evaluation.compared import FEATURE
from reid_train.evaluation.results import check_evaluable, evaluation_step
from reid_train.figures.charts.saving import check_suffix, save
from reid_train.figures.charts.style import Width, entitle
from reid_train.figures.paper.asked import Asked, Row, no_such_image, one_question
from reid_train.figures.paper.kinds import KINDS, QUERY, TOP
from reid_train.figures.paper.rows import compared, read_rows

MOST = 20  # pictures in a row


@click.command(context_settings=CONTEXT)
@click.argument("kind", type=click.Choice(tuple(KINDS)))
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--out",
    type=TypedPath(),
    required=True,
    metavar="FILE.svg|pdf|png",
    help="The figure; its suffix says what is written.",
)
@click.option("--dataset", help="Evaluate on another dataset.  [default: the runs']")
@click.option("--protocol", help="Protocol of the dataset.  [default: its first]")
@FEATURE
@click.option(
    "--query",
    "queries",
    multiple=True,
    metavar="KEY|N",
    help="Of ranked, activations, maps: this image, or how many to choose.",
)
@click.option(
    "--top", type=click.IntRange(1, 50), help="Of cmc the ranks, of ranked the matches shown."
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="TEXT",
    help="What the figure calls a run or row, once for each in their order.  [default: its name]",
)
@click.option(
    "--width", type=click.Choice(["one", "two"]), help="As wide as one column or two of a paper."
)
@click.option("--title", help="Above the figure.  [default: none]")
@JOBS
@DEVICE
@json_option
def figure(
    terminal: Terminal,
    kind: str,
    runs: tuple[str, ...],
    out: Path,
    dataset: str | None,
    protocol: str | None,
    feature: str | None,
    queries: tuple[str, ...],
    top: int | None,
    labels: tuple[str, ...],
    width: str | None,
    title: str | None,
    device: str,
) -> None:
    """Draw RUNs for a paper: cmc, roc and det with intervals, training curves, a histogram of
    similarities, ranked lists, activation maps, features by body part, label maps; differences of
    rows from the first, each row all seeds of a recipe and its settings.

    What is missing is made first, as by eval. Colours, dashes and marks are told apart with any
    colour vision and in print; fonts are embedded; equal figures are equal files. The caption,
    ready for LaTeX, says the protocol; it is in the file too.

    \b
    Example: reidpipe figure cmc baseline-tiny pi-vl-tiny --out cmc.pdf
             reidpipe figure ranked pi-vl-tiny --query 3 --top 8 --out ranked.svg
             reidpipe figure differences clip-reid-tiny pi-vl-tiny --out differences.svg
    """
    check_suffix(out)
    check_out(out, folder=False)
    what = KINDS[kind]
    evaluated = {"--dataset": dataset, "--protocol": protocol, "--feature": feature}
    _check_options(kind, {QUERY: queries, TOP: top}, evaluated)
    labels = tuple(" ".join(label.split()) for label in labels)
    rows: dict[str, Row] = {}
    if what.rows:
        rows = read_rows(terminal.workspace, runs, labels)
        found = {run.name: run for row in rows.values() for run in row.runs}
    else:
        known = list_runs(terminal.workspace)
        chosen = [find_run(terminal.workspace, reference, known) for reference in runs]
        found = _named(chosen, labels)
    evaluations: list[Step] = []
    if what.evaluated:
        evaluations = [
            evaluation_step(
                terminal, run.model, dataset=dataset, protocol=protocol, feature=feature
            )
            for run in found.values()
        ]
        for names in compared(rows) or [list(found)]:
            places = [list(found).index(name) for name in names]
            one_question(names, [evaluations[place] for place in places])
    columns: Width = what.width if width is None else "two" if width == "two" else "one"
    asked = Asked(terminal.workspace, found, evaluations, columns, rows, top=top)
    execution = terminal.execution(device=device)
    before = Outcome((), ())
    if what.pictures:
        # Before anything is computed: whether its images may be shown, and which are meant.
        source = evaluations[0].inputs["index"] if evaluations else what.steps(asked)[0]
        _check_shown(source)
        before = graph.run(terminal.workspace, [source], execution, announce=terminal.announce)
        asked = replace(asked, queries=_queries(terminal, source, queries))

    def check() -> None:
        # Curves are of trainings: nothing is evaluated for them.
        for run, step in zip(found.values() if evaluations else (), evaluations, strict=True):
            check_evaluable(terminal.workspace, step, run=run.name)

    outcome = graph.run_checked(
        terminal.workspace,
        what.steps(asked),
        execution,
        first=[step.inputs["index"] for step in evaluations],
        check=check,
        announce=terminal.announce,
    ).after(before)
    drawn = what.draw(asked)
    if title:
        entitle(drawn.figure, title)
    if terminal.first:
        heading = title or f"{what.title}: {', '.join(rows or found)}"
        save(drawn.figure, out, title=heading, caption=drawn.caption)
    terminal.say(latex_text(drawn.caption))
    terminal.told(outcome)
    terminal.say(f"figure {out}")
    terminal.result(
        {
            "figure": str(out),
            "kind": kind,
            "runs": [run.name for run in found.values()],
            "caption": drawn.caption,
            "latex": latex_text(drawn.caption),
            "made": [step.key for step in outcome.made],
        }
    )


def _check_options(kind: str, drawn: Mapping[str, Any], evaluated: Mapping[str, Any]) -> None:
    """Raise ReidpipeError for an option that says nothing about this kind of figure. drawn,
    evaluated: what was typed of options that some kinds have, and that kinds with evaluations have.
    """
    known = set(KINDS[kind].options)
    if KINDS[kind].evaluated:
        known |= set(evaluated)
    for option, value in {**drawn, **evaluated}.items():
        if value and option not in known:
            raise ReidpipeError(
                f"found {option} for figure {kind}; expected "
                f"{' or '.join(sorted(known)) or 'neither a dataset nor images'}; leave it out"
            )


def _named(runs: list[Run], labels: tuple[str, ...]) -> dict[str, Run]:
    """Each run once, by what the figure calls it."""
    once = list({run.name: run for run in runs}.values())
    names = list(labels) or [run.name for run in once]
    if len(names) != len(once) or len(set(names)) < len(names) or not all(names):
        raise ReidpipeError(
            f"found {len(names)} --label ({', '.join(names)}) for {len(once)} runs; expected one "
            "of its own for each; type --label once per run, in their order"
        )
    return dict(zip(names, once, strict=True))


def _check_shown(source: Step) -> None:
    """Raise ReidpipeError for images of a withdrawn dataset."""
    dataset = source.params["dataset"]
    if not pictures_allowed(dataset, source.params.get("definition")):
        raise ReidpipeError(
            f"found images of {dataset}, which its publisher has withdrawn; expected images that "
            "may be shown; type another --dataset, or a figure without images such as cmc"
        )


def _queries(terminal: Terminal, source: Step, typed: tuple[str, ...]) -> list[str] | int | None:
    """What ``--query`` means: keys of images of the index, which exists, or a number of them."""
    if not typed:
        return None
    index = read_index(terminal.workspace.folder(source))
    known = {row.key for row in index.rows}
    if len(typed) == 1 and typed[0] not in known and re.fullmatch("[0-9]{1,6}", typed[0]):
        if not 1 <= int(typed[0]) <= MOST:
            raise ReidpipeError(
                f"found --query {typed[0]}; expected an image's key or 1 to {MOST}; type --query 4"
            )
        return int(typed[0])
    for key in typed:
        if key not in known:
            raise no_such_image(key, f"image of {index.dataset}", next(iter(sorted(known)), "4"))
    return list(typed)
