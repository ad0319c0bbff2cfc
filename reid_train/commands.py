"""``reidpipe eval``, ``report`` and ``recipes``; the steps that ``train`` and ``demo`` ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from pipeline import graph, requests
from pipeline.atomic import read_json
from pipeline.commandline import CONTEXT, DEVICE, Terminal, json_option
from pipeline.errors import ReidpipeError
from pipeline.manifest import load_manifest
from pipeline.runs import find_run
from pipeline.sources import index_step
from pipeline.steps import Step
from pipeline.tables import format_table
from reid_train.evaluation.protocols import find_protocol
from reid_train.learner_recipe import list_learners, load_learner
from reid_train.models import clip_tiny
from reid_train.recipe import list_recipes, load_recipe
from reid_train.recipe_parts import Recipe


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
    )
    targets = [step]
    if with_report:
        targets.append(requests.report(found.name, [step]))
    outcome = graph.run(
        terminal.workspace, targets, terminal.execution(device=device), announce=terminal.announce
    )
    metrics = read_json(terminal.workspace.folder(step) / "metrics.json")
    terminal.say(format_table([metrics_row(found.name, metrics)], METRIC_COLUMNS))
    terminal.say(protocol_line(metrics, step))
    if metrics["rerank"]:
        row = metrics_row(found.name, {**metrics, **metrics["rerank"]})
        options = ", ".join(f"{key} {metrics['rerank'][key]}" for key in ("k1", "k2", "lam"))
        terminal.say(f"k-reciprocal re-ranking, {options}:")
        terminal.say(format_table([row], METRIC_COLUMNS))
    terminal.told(outcome)
    terminal.say(f"metrics {terminal.workspace.folder(step) / 'metrics.json'}")
    page = report_page(terminal, targets[-1]) if with_report else None
    if page:
        terminal.say(f"report {page}")
    terminal.result(
        {
            **metrics,
            "run": found.name,
            "folder": str(terminal.workspace.folder(step)),
            "report": page,
        }
    )


@click.command(context_settings=CONTEXT)
@click.argument("runs", nargs=-1, required=True)
@DEVICE
@json_option
def report(terminal: Terminal, runs: tuple[str, ...], device: str) -> None:
    """One self-contained HTML page for one run or a comparison of several.

    Each run is evaluated under its dataset's first protocol. When one of them read label maps of
    the first one's dataset, their features by body part are drawn and measured too.
    Example: reidpipe report baseline-tiny pi-vl-tiny
    """
    found = [find_run(terminal.workspace, reference) for reference in runs]
    steps = [evaluation_step(terminal, run.model) for run in found]
    page = requests.report(" / ".join(run.name for run in found), steps, shared_maps(steps))
    outcome = graph.run(
        terminal.workspace, [page], terminal.execution(device=device), announce=terminal.announce
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


@click.command(context_settings=CONTEXT)
@click.argument("recipe", required=False)
@click.option("--parameters", is_flag=True, help="Count parameters of each model (imports torch).")
@json_option
def recipes(terminal: Terminal, recipe: str | None, parameters: bool) -> None:
    """All recipes, or one in full with its published results. Those for classify come last; of
    these the parameters are what the learner trains in the comparisons of CoCoOp and MaPLe.

    Example: reidpipe recipes slicenet2
    """
    if recipe is not None:
        import yaml

        loaded = load_learner(recipe) if recipe in list_learners() else load_recipe(recipe)
        value = loaded.model_dump(mode="json")
        terminal.say(yaml.safe_dump(value, sort_keys=False).rstrip())
        terminal.result(value)
        return
    from reid_train.classify_tables import learner_rows

    rows: list[dict[str, Any]] = []
    for name in list_recipes():
        loaded = load_recipe(name)
        row: dict[str, Any] = {
            "recipe": name,
            "input": "x".join(str(side) for side in loaded.input.size),
            "stages": " + ".join(f"{stage.name} ({stage.epochs})" for stage in loaded.stages),
            "about": loaded.summary,
        }
        if parameters:
            from reid_train.build import count_parameters

            row["parameters"] = count_parameters(loaded)
        rows.append(row)
    rows += learner_rows(parameters)
    columns = ["recipe", "input", "stages", *(["parameters"] if parameters else []), "about"]
    terminal.say(format_table(rows, columns))
    terminal.result(rows)


METRIC_COLUMNS = ["run", "mAP", "Rank-1", "Rank-5", "Rank-10", "mINP", "queries", "gallery"]


def metrics_row(name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """One line of the metrics table; shares as percent."""
    return {
        "run": name,
        "mAP": 100 * metrics["mAP"],
        "mINP": 100 * metrics["mINP"],
        **{f"Rank-{rank}": 100 * metrics["cmc"][str(rank)] for rank in (1, 5, 10)},
        "queries": metrics["valid_queries"],
        "gallery": metrics["gallery"],
    }


def protocol_line(metrics: dict[str, Any], step: Step) -> str:
    """What the numbers depend on, in one line to print beside them."""
    height, width = step.inputs["images"].params["size"]
    flip = "with" if step.params["flip"] else "no"
    return (
        f"protocol: {metrics['dataset']} {metrics['protocol']}, excluded {metrics['exclude']}, "
        f"{metrics['valid_queries']} of {metrics['queries']} queries valid, {height}x{width}, "
        f"{flip} flip; index {step.inputs['index'].key[:8]}"
    )


def model_step(
    terminal: Terminal,
    recipe: str,
    dataset: str,
    *,
    seed: int,
    pretrained: str | None = None,
    settings: tuple[str, ...] = (),
    label_maps: Callable[[Step], Step] | None = None,
    index: Step | None = None,
) -> Step:
    """The model step of a command line. ``label_maps`` gives those of the dataset's index, and
    is asked when the recipe reads them. ``pretrained`` None: what the recipe says. ``index``: the
    dataset's, where the caller has it already (looking at a tree of images takes a while).
    """
    loaded = changed_recipe(recipe, settings)
    start = _start(pretrained or loaded.model.pretrained)
    index = index or index_step(terminal.workspace, dataset)
    maps = label_maps(index) if label_maps is not None and loaded.reads_maps else None
    teacher = _start(loaded.model.teacher.pretrained) if loaded.model.teacher else "none"
    return requests.model(
        index, loaded.plain(), seed=seed, pretrained=start, teacher=teacher, label_maps=maps
    )


def changed_recipe(recipe: str, settings: tuple[str, ...]) -> Recipe:
    """A recipe by name or file with the values of ``--set KEY=VALUE``."""
    return load_recipe(recipe, dict(setting(text) for text in settings))


def _start(pretrained: str) -> str:
    """What to start from, for ``requests.model``."""
    if pretrained in clip_tiny.FILES:
        return str(clip_tiny.FILES[pretrained])
    if pretrained not in ("none", "openai", "imagenet") and not Path(pretrained).is_file():
        raise ReidpipeError(
            f"found no file {pretrained}; expected none, openai, imagenet, "
            f"{', '.join(clip_tiny.FILES)} or a file with weights; type --pretrained none"
        )
    return pretrained


def evaluation_step(
    terminal: Terminal,
    model: Step,
    *,
    dataset: str | None = None,
    protocol: str | None = None,
    exclude: str | None = None,
    flip: bool = False,
    rerank: bool = False,
) -> Step:
    """The evaluation step of a model, with what the dataset and the recipe say by default.

    Raises ReidpipeError for an imported model when no dataset is named: it was trained elsewhere.
    """
    if dataset is None and "index" not in model.inputs:
        raise ReidpipeError(
            f"found an imported model ('{model.params['recipe']['name']}') and no dataset; "
            "expected one to evaluate it on; type reidpipe eval RUN --dataset mannequins"
        )
    target = index_step(terminal.workspace, dataset) if dataset else model.inputs["index"]
    name = target.params["dataset"]
    default = load_manifest(name).default_protocol
    chosen = find_protocol(name, protocol) if protocol else default
    return requests.evaluation(
        model,
        target,
        protocol=chosen.name,
        exclude=exclude or chosen.exclude,
        flip=flip or model.params["recipe"]["test"]["flip"],
        rerank={"k1": 20, "k2": 6, "lam": 0.3} if rerank else None,
    )


def _thousandths(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def shared_maps(evaluations: Sequence[Step]) -> Step | None:
    """The label maps of a report on ``evaluations``: those of the first one's dataset that a model
    read, if one did.
    """
    index = evaluations[0].inputs["index"].key
    for step in evaluations:
        maps = step.inputs["model"].inputs.get("maps")
        if maps is not None and maps.inputs["index"].key == index:
            return maps
    return None


def report_page(terminal: Terminal, step: Step) -> str:
    """Path of the page a report step wrote."""
    return str(terminal.workspace.folder(step) / "report.html")


def setting(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ReidpipeError(
            f"found --set {text}; expected KEY=VALUE; type --set stages.0.epochs=20"
        )
    return key, value
