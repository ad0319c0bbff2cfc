"""``reidpipe eval``."""

from __future__ import annotations

import click

from pipeline.artifacts import graph, requests
from pipeline.artifacts.atomic import read_json
from pipeline.artifacts.runs import find_run
from pipeline.terminal.commandline import CONTEXT, DEVICE, Terminal, json_option
from pipeline.terminal.tables import format_table
from reid_train.evaluation.results import (
    METRIC_COLUMNS,
    check_evaluable,
    evaluation_step,
    metrics_row,
    protocol_line,
)
from reid_train.figures.commands import report_page
from reid_train.models import DISTANCES
from reid_train.recipe import expected


@click.command("eval", context_settings=CONTEXT)
@click.argument("run", required=False)
@click.option("--dataset", help="Evaluate on another dataset.  [default: the run's]")
@click.option("--protocol", help="Protocol of the dataset.  [default: its first]")
@click.option("--rerank", is_flag=True, help="Also k-reciprocal re-ranking (20, 6, 0.3).")
@click.option("--flip", is_flag=True, help="Add the mirrored image's features.")
@click.option(
    "--exclude",
    type=click.Choice(["same-camera", "same-image", "none"]),
    help="Gallery images a query does not see.  [default: the protocol's]",
)
@click.option(
    "--distance",
    type=click.Choice(DISTANCES),
    help="Between L2-normalised features, or those as they are.  [default: the model's]",
)
@click.option("--report", "with_report", is_flag=True, help="Write an HTML report too.")
@DEVICE
@json_option
def evaluate(
    terminal: Terminal,
    run: str | None,
    dataset: str | None,
    protocol: str | None,
    rerank: bool,
    flip: bool,
    exclude: str | None,
    distance: str | None,
    with_report: bool,
    device: str,
) -> None:
    """Evaluate RUN (default: the newest): exact CMC, mAP, mINP, threshold, ranked lists.

    Example: reidpipe eval --protocol course --report
    """
    found = find_run(terminal.workspace, run)
    step = evaluation_step(
        terminal,
        found.model,
        dataset=dataset,
        protocol=protocol,
        exclude=exclude,
        flip=flip,
        rerank=rerank,
        distance=distance,
    )
    targets = [step]
    if with_report:
        targets.append(requests.report(found.name, [step]))
    outcome = graph.run_checked(
        terminal.workspace,
        targets,
        terminal.execution(device=device),
        first=[step.inputs["index"]],
        check=lambda: check_evaluable(terminal.workspace, step, run=found.name),
        announce=terminal.announce,
    )
    metrics = read_json(terminal.workspace.folder(step) / "metrics.json")
    terminal.say(format_table([metrics_row(found.name, metrics)], METRIC_COLUMNS))
    terminal.say(protocol_line(metrics, step))
    if metrics.get("side_information"):
        terminal.say(metrics["side_information"])
    if metrics["rerank"]:
        row = metrics_row(found.name, {**metrics, **metrics["rerank"]})
        options = ", ".join(f"{key} {metrics['rerank'][key]}" for key in ("k1", "k2", "lam"))
        terminal.say(f"k-reciprocal re-ranking, {options}:")
        terminal.say(format_table([row], METRIC_COLUMNS))
    published = expected.beside(found.recipe, step, [metrics])
    for line in expected.lines(published):
        terminal.say(line)
    terminal.told(outcome)
    terminal.say(f"metrics {terminal.workspace.folder(step) / 'metrics.json'}")
    page = report_page(terminal, targets[-1]) if with_report else None
    if page:
        terminal.say(f"report {page}")
    terminal.result(
        {
            **metrics,
            "recipe": found.recipe,  # of runs with one model under two names, this one's
            "run": found.name,
            "folder": str(terminal.workspace.folder(step)),
            "report": page,
            "published": expected.rows(published),
        }
    )
