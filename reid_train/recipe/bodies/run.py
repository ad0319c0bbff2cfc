"""The body of ``reidpipe run``."""

from __future__ import annotations

from pipeline.artifacts import graph
from pipeline.artifacts.recording import recorded
from pipeline.terminal.commandline import Terminal
from reid_train.recipe.bodies import Maps
from reid_train.recipe.bodies.map_options import check_reads_maps


def run(
    terminal: Terminal,
    label_maps: Maps,
    *,
    recipes: tuple[str, ...],
    datasets: tuple[str, ...],
    tested: tuple[str, ...],
    feature: str | None,
    parsers: tuple[str, ...],
    seeds: tuple[str, ...],
    pretrained: str | None,
    settings: tuple[str, ...],
    varied: tuple[str, ...],
    against: str | None,
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    logs: tuple[str, ...],
    with_report: bool,
    device: str,
) -> None:
    """The body of ``reidpipe run``."""
    from reid_train.engine.trackers import read_trackers
    from reid_train.evaluation.statistics.differences import differences, lines
    from reid_train.figures.commands import report_page, report_step, shared_maps
    from reid_train.recipe import combinations, expected, random_start
    from reid_train.recipe.arguments import changed_recipe, in_settings
    from reid_train.recipe.short_forms import Short
    from reid_train.recipe.variation import read_variations

    trackers = read_trackers(logs)
    short = Short(epochs, batch, lr)
    settings = in_settings(recipes, settings, short)
    loaded = [changed_recipe(recipe, settings) for recipe in recipes] if varied else []
    variations = read_variations(varied, settings, loaded, short.typed())
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
        variations=variations,
        tested=combinations.read_names(tested, "--test-on"),
        feature=feature,
    )
    names = combinations.named(cells)
    pairs = None if against is None else combinations.pairs_with(names, against)
    for line in random_start.warnings(terminal.workspace, [cell.model for cell in cells]):
        terminal.note(line)
    targets = [cell.evaluation for cell in cells]
    if with_report:
        first = [cell.evaluation for cell in cells if cell.seed == cells[0].seed]
        title = "reidpipe run " + " ".join(recipes)
        targets.append(report_step(terminal, title, first, shared_maps(first)))
    runs = {cell.run.name: cell.run for cell in cells}
    with recorded(terminal.workspace, runs.values(), terminal.announce) as announce:
        outcome = graph.attempt(
            terminal.workspace,
            targets,
            terminal.execution(device=device, trackers=trackers, runs=runs),
            first=[index for cell in cells for index in cell.indices],
            check=lambda _: combinations.check(terminal.workspace, cells),
            announce=announce,
        )
    asked, cells = cells, combinations.made(terminal.workspace, cells)
    if not cells:
        outcome.check()
    called = combinations.record(terminal, cells)
    rows = combinations.results(terminal, cells, called)
    terminal.say(combinations.table(rows))
    terminal.publish(combinations.publication(rows))
    for line in combinations.protocols(rows):
        terminal.say(line)
    published = expected.beside_cells(terminal.workspace, cells)
    for line in expected.lines(published):
        terminal.say(line)
    apart = differences(combinations.contenders(terminal, cells, names), pairs)
    for line in lines(apart):
        terminal.say(line)
    for line in combinations.warnings(terminal, cells, called):
        terminal.note(line)
    for line in combinations.absent(asked, cells):
        terminal.note(line)
    terminal.told(outcome)
    whole = with_report and terminal.workspace.complete(targets[-1])
    page = report_page(terminal, targets[-1]) if whole else None
    if page:
        terminal.say(f"report {page}")
    terminal.result(
        {
            "rows": rows,
            "published": expected.rows(published),
            "differences": apart,
            "report": page,
            "made": [made.key for made in outcome.made],
        }
    )
    outcome.check()
