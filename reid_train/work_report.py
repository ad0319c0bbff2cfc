"""Worker of step "report": evaluations to one HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import atomic
from reid_train.figures.report import RunView, write_report

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.steps import Job

PAGE = "report.html"


def report(job: Job) -> dict[str, Any]:
    """Write ``report.html``; returns the names of the runs it shows.

    params: title, evaluations (how many). inputs: evaluation0, model0, index0, evaluation1, ...;
    maps (label maps of index0) where wanted.
    """
    views = []
    for number in range(job.params["evaluations"]):
        model = job.inputs[f"model{number}"]
        meta = atomic.read_json(model / "model.json")
        views.append(
            RunView(
                name=_run_name(meta, model),
                evaluation=job.inputs[f"evaluation{number}"],
                index=job.inputs[f"index{number}"],
                model=model,
                maps=job.inputs.get("maps") if number == 0 else None,
                provenance=_provenance(meta),
            )
        )
    write_report(job.folder / PAGE, views, job.params["title"])
    return {"runs": [view.name for view in views]}


def _run_name(meta: dict[str, Any], model: Path) -> str:
    """The run's name as ``reidpipe status`` prints it; imported models have their key only."""
    recipe = meta.get("recipe") or {}
    if "name" not in recipe:
        return f"model {model.name[:6]}"
    dataset = str(meta.get("dataset", "")).replace(":", "_").replace("/", "_")
    return f"{recipe['name']}-{dataset}-s{meta.get('seed')}-{model.name[:6]}"


def _provenance(meta: dict[str, Any]) -> dict[str, Any]:
    """What ``model.json`` tells about the training, in the order of the table."""
    told = {
        "trained on": meta.get("dataset"),
        "pretrained": meta.get("pretrained"),
        "training": meta.get("training"),
        "runtime": meta.get("runtime"),
        "weights": meta.get("weights_sha256"),
    }
    return {name: value for name, value in told.items() if value is not None}
