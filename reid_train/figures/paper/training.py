"""Training curves of runs, from the logs of all their stages."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts import requests
from pipeline.artifacts.runs import Run
from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.log import read_log
from reid_train.figures.charts.curves import curves
from reid_train.figures.paper.asked import Asked, Drawn, logs
from reid_train.figures.paper.captions import names


def steps(asked: Asked) -> list[Step]:
    """The models. Raises ReidpipeError for one that was trained elsewhere: it has no log."""
    for name, run in asked.runs.items():
        if "index" not in run.model.inputs:
            raise ReidpipeError(
                f"found {name}, a model trained elsewhere and imported without a log; expected a "
                "run trained here; type reidpipe train"
            )
    return [run.model for run in asked.runs.values()]


def draw(asked: Asked) -> Drawn:
    """A panel per stage, a line per run."""
    found = {
        name: [entry for path in logs(_folders(asked, run)) for entry in read_log(path)]
        for name, run in asked.runs.items()
    }
    for name, log in found.items():
        if not any(entry["event"] == "epoch" for entry in log):
            raise ReidpipeError(
                f"found no epoch in the log of {name}; expected a run that was trained; type "
                f"reidpipe cache rm {asked.runs[name].model.key[:8]} and reidpipe train"
            )
    trained: dict[str, list[str]] = {}
    for name, run in asked.runs.items():
        trained.setdefault(run.dataset, []).append(name)
    where = "; ".join(f"{names(who)} on {dataset}" for dataset, who in trained.items())
    told = [f"Mean training loss of every epoch, trained: {where}."]
    looked = {
        f"{entry['dataset']}, protocol {entry['protocol']}"
        for log in found.values()
        for entry in log
        if entry["event"] == "validation"
    }
    if looked:
        told.append(f"Validation mAP on {names(sorted(looked))}.")
    gone = [
        f"{stage.name} {stage.key[:8]} of {name}"
        for name, run in asked.runs.items()
        for stage in requests.earlier_stages(run.model)
        if not asked.workspace.complete(stage)
    ]
    if gone:
        told.append(f"Not drawn, as their artifacts were removed: {names(gone)}.")
    return Drawn(curves(found, width=asked.width), " ".join(told))


def _folders(asked: Asked, run: Run) -> list[Path]:
    """Of the stages, in the order of training; those whose artifacts were removed have no log."""
    stages = [*requests.earlier_stages(run.model), run.model]
    return [asked.workspace.folder(s) for s in stages if asked.workspace.complete(s)]
