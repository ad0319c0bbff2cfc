"""Worker of step "report": evaluations to one HTML page."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

# Here, though others use it: workers are forked from a process that has imported it, while the
# index of a demo is drawn.
import sklearn.manifold  # noqa: F401

from pipeline.artifacts import atomic
from pipeline.artifacts.checked import read_json
from pipeline.artifacts.mark import is_marked, read_mark
from pipeline.artifacts.runs import run_name
from pipeline.artifacts.steps import Step
from pipeline.images.pixels import resize
from reid_train.evaluation.compared import encoder
from reid_train.evaluation.side_information import SideInformation, side_information
from reid_train.figures.activation_maps import Explainable, explain_pair
from reid_train.figures.comparison import compare
from reid_train.figures.page.views import Explained, RunView
from reid_train.figures.page.writing import write_report
from reid_train.recipe.settings import continue_command, deviations, train_command
from reid_train.recipe.steps import RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from pipeline.artifacts.steps import Job
    from pipeline.datasets.index import ImageRow
    from reid_train.models.deployable import ReidModel

PAGE, PARTS = "report.html", "parts.json"
PAIRS = 2


def report(job: Job) -> dict[str, Any]:
    """Write ``report.html``, and ``parts.json`` with its numbers about features by body part where
    there are label maps; returns the names of the runs it shows.

    params: title, evaluations (how many), date where the page has one. inputs: evaluation0, model0,
    index0, evaluation1, ...; stage0_0, stage0_1, ... (stages before model0, in order) where they
    are kept; maps (label maps of index0) where wanted. Runs on another index than the first one's
    are shown without a comparison of activations and parts.
    """
    from reid_train import load_model

    views, networks = [], {}
    for number in range(job.params["evaluations"]):
        job.running.report(number, job.params["evaluations"], "runs")
        model = job.inputs[f"model{number}"]
        meta = read_json(model / "model.json")
        earlier = _stages(job, number)
        view = RunView(
            name=_run_name(meta, model),
            evaluation=job.inputs[f"evaluation{number}"],
            index=job.inputs[f"index{number}"],
            model=model,
            earlier=earlier,
            maps=job.inputs.get("maps") if number == 0 else None,
            provenance=_provenance(meta, earlier, model),
        )
        network = load_model(model, device=job.device)
        view = replace(view, sides=sides_of(view, network))
        views.append(replace(view, explained=_explained(view, network)))
        networks[view.name] = network
    same = [view for view in views if view.index == views[0].index]
    comparison = compare(same, networks, job.inputs.get("maps"))
    write_report(job.folder / PAGE, views, job.params["title"], comparison, job.params.get("date"))
    if comparison.parts:
        measured = {name: figure.numbers for name, figure in comparison.parts.items()}
        atomic.write_json(job.folder / PARTS, {"protocol": comparison.protocol, "runs": measured})
    return {"runs": [view.name for view in views]}


def _stages(job: Job, number: int) -> list[Path]:
    """Folders of the stages before a model, in order."""
    found = []
    while (folder := job.inputs.get(f"stage{number}_{len(found)}")) is not None:
        found.append(folder)
    return found


def _explained(view: RunView, network: ReidModel) -> list[Explained]:
    """Activation maps of the best queries of different people with their first right match; none of
    images that may not be shown.
    """
    ranking, pictures = view.ranking, view.pictures
    if not pictures.allowed:
        return []
    pairs, people = [], set()
    valid = np.flatnonzero(ranking.valid & ranking.correct.any(axis=1))
    for query in valid[np.argsort(-ranking.ap[valid], kind="stable")]:
        row = pictures.rows[str(ranking.query_keys[query])]
        if row.pid not in people and len(people) < PAIRS:
            people.add(row.pid)
            first = int(np.flatnonzero(ranking.correct[query])[0])
            match = pictures.rows[str(ranking.gallery_keys[ranking.indices[query, first]])]
            pairs.append((row, match, float(ranking.similarities[query, first])))
    explained = []
    for query, match, similarity in pairs:
        sides = (
            Explainable(
                resize(pictures[row.key], network.input_size, "bilinear"),
                encoder_of(view, network, row),
            )
            for row in (query, match)
        )
        caption = f"{query.key} and {match.key}, similarity {similarity:.2f}"
        explained.append(Explained(caption, explain_pair(*sides)))
    return explained


def sides_of(view: RunView, network: ReidModel) -> SideInformation:
    """What the evaluation has told the network of its images."""
    index = view.pictures.index
    tested = {str(key) for key in [*view.ranking.query_keys, *view.ranking.gallery_keys]}
    rows = [row for row in index.rows if row.key in tested]
    assert view.model is not None
    return side_information(network, view.model, view.index, index, rows)


def encoder_of(view: RunView, network: ReidModel, row: ImageRow) -> Callable[[Tensor], Tensor]:
    """Variants of one image, (M, 3, H, W) float RGB in 0..1, to what the evaluation compares of
    them, (M, D), with the image's camera and view.
    """
    import torch

    place, known = next(network.parameters()).device, view.sides.of([row])
    compared = encoder(network, view.feature)

    def encode(images: Tensor) -> Tensor:
        side = {
            name: torch.full((len(images),), int(value[0]), device=place)
            for name, value in known.items()
        }
        return compared(images.to(place), **side)

    return encode


def _run_name(meta: dict[str, Any], model: Path) -> str:
    """The run's name as ``reidpipe status`` prints it; imported models have their key only."""
    recipe = (meta.get("recipe") or {}).get("name")
    if recipe is None:
        return f"model {model.name[:6]}"
    key, epoch = meta.get("model_key") or model.name, meta.get("epoch")
    name = run_name(recipe, str(meta.get("dataset")), meta.get("seed"), key)
    return name if epoch is None else f"{name}@{epoch}"


def _provenance(meta: dict[str, Any], earlier: Sequence[Path], model: Path) -> dict[str, Any]:
    """What ``model.json`` tells about the training, in the order of the table. earlier, model: as
    of ``RunView``.
    """
    told = {
        "trained by": _command(meta, earlier, model),
        "trained on": meta.get("dataset"),
        "pretrained": meta.get("pretrained"),
        "otherwise than its authors": "; ".join(deviations(meta.get("recipe") or {})) or None,
        "training": _without_figures(meta.get("training")),
        "runtime": meta.get("runtime"),
        "weights": meta.get("weights_sha256"),
    }
    return {name: value for name, value in told.items() if value is not None}


def _without_figures(training: Any) -> Any:
    """The last losses are the end of the curves."""
    if not isinstance(training, dict):
        return training
    return {name: value for name, value in training.items() if name != "figures"}


def _command(meta: dict[str, Any], earlier: Sequence[Path], model: Path) -> str | None:
    """What was typed to train a model of ours, as far as it is known."""
    recipe = meta.get("recipe") or {}
    if recipe.get("stages") is None:
        return None
    if meta.get("pretrained") == RUN:
        if not is_marked(model):
            return None
        stood_on = read_mark(model)["inputs"]
        if "model" in stood_on:  # of an epoch
            stood_on = stood_on["model"]["inputs"]
        start = Step.from_plain(stood_on["start"])
        return continue_command(recipe, start, str(meta["dataset"]), meta["seed"])
    told = [read_mark(folder)["params"].get("stage") for folder in earlier if is_marked(folder)]
    stages = [stage for stage in told if isinstance(stage, dict)]
    whole = {**recipe, "stages": [*stages, *recipe["stages"]]}
    return train_command(whole, str(meta.get("dataset")), meta.get("seed"))
