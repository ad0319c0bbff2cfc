"""``reidpipe eval``."""

from __future__ import annotations

from typing import Any

import click

from pipeline.artifacts import graph
from pipeline.artifacts.checked import read_json
from pipeline.artifacts.runs import Run, find_run, list_runs
from pipeline.artifacts.steps import Step
from pipeline.datasets.exclusion import RULES
from pipeline.terminal.commandline import CONTEXT, DEVICE, JOBS, TABLE, Terminal, json_option
from pipeline.terminal.tables import format_table
from reid_train.evaluation.compared import FEATURE
from reid_train.evaluation.matrix import Cell, check_cells, matrix_lines, read_figures, target_names
from reid_train.evaluation.results import (
    METRIC_COLUMNS,
    check_evaluable,
    evaluation_step,
    metrics_row,
    protocol_line,
    publication,
    rerank_words,
)
from reid_train.evaluation.statistics.differences import compared
from reid_train.evaluation.statistics.telling import interval_line, warning
from reid_train.figures.commands import report_page, report_step
from reid_train.models import DISTANCES
from reid_train.recipe.combinations import read_names
from reid_train.recipe.expected import beside, lines, rows


@click.command("eval", context_settings=CONTEXT)
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    help="Evaluate on another dataset; several, or A,B, give a table.  [default: the run's]",
)
@click.option("--protocol", help="Protocol of the dataset, or of each.  [default: its first]")
@click.option("--rerank", is_flag=True, help="Also k-reciprocal re-ranking (20, 6, 0.3).")
@click.option("--flip", is_flag=True, help="Add the mirrored image's features.")
@click.option(
    "--exclude",
    type=click.Choice(list(RULES)),
    help="Gallery images a query does not see.  [default: the protocol's]",
)
@click.option(
    "--distance",
    type=click.Choice(DISTANCES),
    help="Between L2-normalised features, or those as they are.  [default: the model's]",
)
@FEATURE
@click.option("--report", "with_report", is_flag=True, help="Write an HTML report too.")
@TABLE
@JOBS
@DEVICE
@json_option
def evaluate(
    terminal: Terminal,
    runs: tuple[str, ...],
    datasets: tuple[str, ...],
    protocol: str | None,
    rerank: bool,
    flip: bool,
    exclude: str | None,
    distance: str | None,
    feature: str | None,
    with_report: bool,
    device: str,
) -> None:
    """Evaluate RUN (default: the newest): exact CMC, mAP, mINP, threshold, ranked lists.

    Several runs or datasets give a table of sources by targets.
    Example: reidpipe eval --protocol course --report
    """
    known = list_runs(terminal.workspace)
    named = [find_run(terminal.workspace, name, known) for name in runs or (None,)]
    chosen = {run.name: run for run in named}
    cells = [
        Cell(
            run,
            evaluation_step(
                terminal,
                run.model,
                dataset=dataset,
                protocol=protocol,
                exclude=exclude,
                flip=flip,
                rerank=rerank,
                distance=distance,
                feature=feature,
            ),
        )
        for run in chosen.values()
        for dataset in (read_names(datasets, "--dataset") or (None,))
    ]
    if len(cells) > 1:
        _evaluate_matrix(terminal, cells, with_report, device)
        return
    found, step = cells[0].run, cells[0].step
    targets = [step]
    if with_report:
        targets.append(report_step(terminal, found.name, [step]))
    outcome = graph.run_checked(
        terminal.workspace,
        targets,
        terminal.execution(device=device),
        first=[step.inputs["index"]],
        check=lambda: check_evaluable(terminal.workspace, step, run=found.name),
        announce=terminal.announce,
    )
    folder = terminal.workspace.folder(step)
    metrics = read_json(folder / "metrics.json")
    terminal.say(format_table([metrics_row(found.name, metrics)], METRIC_COLUMNS))
    terminal.say(interval_line(folder, metrics))
    terminal.say(protocol_line(metrics, step))
    if metrics.get("side_information"):
        terminal.say(metrics["side_information"])
    if again := metrics.get("rerank"):
        row = metrics_row(found.name, {**metrics, **again})
        terminal.say(f"{rerank_words(metrics)}:")
        terminal.say(format_table([row], METRIC_COLUMNS))
        terminal.say(interval_line(folder, again))
    terminal.publish(publication([(found.name, metrics, protocol_line(metrics, step))]))
    for line in lines(beside(found.recipe, step, [metrics])):
        terminal.say(line)
    if near_chance := warning(metrics, found.name):
        terminal.note(near_chance)
    terminal.told(outcome)
    terminal.say(f"metrics {terminal.workspace.folder(step) / 'metrics.json'}")
    page = report_page(terminal, targets[-1]) if with_report else None
    if page:
        terminal.say(f"report {page}")
    terminal.result(_plain(terminal, found, step, metrics, page))


def _evaluate_matrix(terminal: Terminal, cells: list[Cell], with_report: bool, device: str) -> None:
    steps = [cell.step for cell in cells]
    targets = list(steps)
    if with_report:
        names = zip(cells, target_names(cells), strict=True)
        title = " / ".join(f"{cell.run.name} on {target}" for cell, target in names)
        targets.append(report_step(terminal, title, steps))
    outcome = graph.run_checked(
        terminal.workspace,
        targets,
        terminal.execution(device=device),
        first=[step.inputs["index"] for step in steps],
        check=lambda: check_cells(terminal.workspace, cells),
        announce=terminal.announce,
    )
    figures = read_figures(terminal.workspace, cells)
    for line in matrix_lines(cells, figures):
        terminal.say(line)
    told = [protocol_line(found, cell.step) for cell, found in zip(cells, figures, strict=True)]
    named = [cell.run.name for cell in cells]
    terminal.publish(publication(list(zip(named, figures, told, strict=True))))
    for cell, target, metrics in zip(cells, target_names(cells), figures, strict=True):
        sure = interval_line(terminal.workspace.folder(cell.step), metrics)
        terminal.say(f"{cell.run.name} on {target}: {sure}")
        for line in lines(beside(cell.run.recipe, cell.step, [metrics], label=cell.run.name)):
            terminal.say(line)
        if near_chance := warning(metrics, cell.run.name):
            terminal.note(near_chance)
    for line in compared(terminal.workspace, steps, named):
        terminal.say(line)
    terminal.told(outcome)
    page = report_page(terminal, targets[-1]) if with_report else None
    if page:
        terminal.say(f"report {page}")
    terminal.result(
        [
            _plain(terminal, cell.run, cell.step, metrics, page)
            for cell, metrics in zip(cells, figures, strict=True)
        ]
    )


def _plain(
    terminal: Terminal, run: Run, step: Step, metrics: dict[str, Any], page: str | None
) -> dict[str, Any]:
    """What ``--json`` gives of one evaluation."""
    return {
        **metrics,
        "recipe": run.recipe,  # of runs with one model under two names, this one's
        "run": run.name,
        "folder": str(terminal.workspace.folder(step)),
        "report": page,
        "published": rows(beside(run.recipe, step, [metrics])),
    }
