"""The body of ``reidpipe run``."""

from __future__ import annotations

from pipeline.artifacts import graph, requests
from pipeline.terminal.commandline import Terminal
from reid_train.recipe.bodies import Maps
from reid_train.recipe.bodies.map_options import check_reads_maps


def run(
    terminal: Terminal,
    label_maps: Maps,
    *,
    recipes: tuple[str, ...],
    datasets: tuple[str, ...],
    parsers: tuple[str, ...],
    seeds: tuple[str, ...],
    pretrained: str | None,
    settings: tuple[str, ...],
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    logs: tuple[str, ...],
    with_report: bool,
    device: str,
) -> None:
    """The body of ``reidpipe run``."""
    from reid_train.engine.trackers import read_trackers
    from reid_train.figures.commands import report_page, shared_maps
    from reid_train.recipe import combinations
    from reid_train.recipe.arguments import in_settings
    from reid_train.recipe.short_forms import Short

    trackers = read_trackers(logs)
    settings = in_settings(recipes, settings, Short(epochs, batch, lr))
    check_reads_maps(recipes, settings)
    cells = combinations.combinations(
        terminal,
        recipes,
        combinations.read_names(datasets or ["mannequins"], "--dataset"),
        parsers,
        combinations.read_seeds(seeds or ["0"]),
        label_maps=label_maps,
        pretrained=pretrained,
        settings=settings,
    )
    targets = [cell.evaluation for cell in cells]
    if with_report:
        first = [cell.evaluation for cell in cells if cell.seed == cells[0].seed]
        title = "reidpipe run " + " ".join(recipes)
        targets.append(requests.report(title, first, shared_maps(first)))
    outcome = graph.run_checked(
        terminal.workspace,
        targets,
        terminal.execution(
            device=device, trackers=trackers, runs=dict.fromkeys(cell.run for cell in cells)
        ),
        first=[cell.evaluation.inputs["index"] for cell in cells],
        check=lambda: combinations.check(terminal.workspace, cells),
        announce=terminal.announce,
    )
    rows = combinations.results(terminal, cells, combinations.record(terminal, cells))
    terminal.say(combinations.table(rows))
    for line in combinations.protocols(rows):
        terminal.say(line)
    terminal.told(outcome)
    page = report_page(terminal, targets[-1]) if with_report else None
    if page:
        terminal.say(f"report {page}")
    terminal.result({"rows": rows, "report": page, "made": [made.key for made in outcome.made]})
