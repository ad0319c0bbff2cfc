"""The body of ``reidpipe demo``."""

from __future__ import annotations

from typing import Any

from pipeline.artifacts import graph, requests
from pipeline.artifacts.checked import read_json
from pipeline.artifacts.recording import recorded
from pipeline.artifacts.runs import Run, record_runs
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.tables import format_table
from reid_train.recipe.bodies import PARSER, Maps

# What the demo trains: three methods on equal epochs, as many as two cores finish in a minute.
DEMO_EPOCHS = 5
DEMO: dict[str, tuple[str, ...]] = {
    "baseline-tiny": (),
    "clip-reid-tiny": ("stages.identity-prompts.epochs=10",),
    "pi-vl-tiny": ("stages.identity-prompts.epochs=10", "stages.part-prompts.epochs=1"),
}


def demo(terminal: Terminal, label_maps: Maps, *, seed: int, device: str) -> None:
    """The body of ``reidpipe demo``."""
    from pipeline.datasets.sources import GENERATED, index_step
    from reid_train.evaluation.results import METRIC_COLUMNS, metrics_row, protocol_line
    from reid_train.evaluation.statistics.differences import compared
    from reid_train.figures.commands import report_page, report_step
    from reid_train.recipe.arguments import Once, model_step

    index = index_step(terminal.workspace, GENERATED)
    maps, once = label_maps(index, PARSER), Once()
    models = [
        model_step(
            terminal,
            recipe,
            GENERATED,
            seed=seed,
            settings=(f"stages.image.epochs={DEMO_EPOCHS}", *settings),
            label_maps=lambda _: maps,
            index=index,
            once=once,
        )
        for recipe, settings in DEMO.items()
    ]
    evaluations = [
        requests.evaluation(
            model, model.inputs["index"], protocol="standard", exclude="same-camera"
        )
        for model in models
    ]
    page = report_step(terminal, "reidpipe demo", evaluations, label_maps=maps)
    # First the index, which spreads over all cores while the workers start.
    runs = [Run.of(model.params["recipe"]["name"], GENERATED, seed, model) for model in models]
    with recorded(terminal.workspace, runs, terminal.announce) as announce:
        outcome = graph.run_checked(
            terminal.workspace,
            [maps, *models, *evaluations, page],
            terminal.execution(device=device, runs=[run.name for run in runs]),
            first=[index],
            check=lambda: None,
            announce=announce,
        )
    record_runs(terminal.workspace, runs)
    rows: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for model, evaluation in zip(models, evaluations, strict=True):
        recipe = model.params["recipe"]
        metrics = read_json(terminal.workspace.folder(evaluation) / "metrics.json")
        epochs = sum(stage["epochs"] for stage in recipe["stages"])
        rows.append(metrics_row(f"{recipe['name']} ({epochs} epochs)", metrics))
        results.append(metrics)
    terminal.say(format_table(rows, METRIC_COLUMNS))
    terminal.say(protocol_line(results[0], evaluations[0]))
    names = [model.params["recipe"]["name"] for model in models]
    for line in compared(terminal.workspace, evaluations, names):
        terminal.say(line)
    terminal.told(outcome)
    path = report_page(terminal, page)
    terminal.say(f"report {path}")
    terminal.result({"metrics": results, "report": path, "made": len(outcome.made)})
