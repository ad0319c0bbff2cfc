"""What a command asks for, as steps: dataset, packed pixels, label maps, model, evaluation, report.

Everything here is plain data: recipes arrive as dictionaries, parsers and workers as names, so a
request can be keyed, compared and found complete without importing a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import sha256_file
from pipeline.steps import Step

INDEX_VERSION = 1
IMAGES_VERSION = 1
MAPS_VERSION = 1
MODEL_VERSION = 1
EVALUATION_VERSION = 1
REPORT_VERSION = 1


def index(dataset: str, *, worker: str, params: Mapping[str, Any]) -> Step:
    """The index table of a dataset (``id`` or ``id:variant``).

    worker: ``pipeline.prepare:index`` for images on disk, ``pipeline.mannequins:render`` for
    generated people. params: what that worker reads; for images on disk it holds a fingerprint of
    the tree, so that changed files are indexed again.
    """
    return Step("index", INDEX_VERSION, worker, {"dataset": dataset, **params})


def images(source: Step, *, size: Sequence[int], filter: str) -> Step:
    """All images of an index resized to ``size`` (H, W) with a named PIL filter, as uint8 RGB."""
    params = {"size": list(size), "filter": filter}
    return Step("images", IMAGES_VERSION, "pipeline.images:pack", params, {"index": source})


def maps(
    source: Step,
    *,
    model: str,
    weights: Path,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    options: Mapping[str, Any] | None = None,
) -> Step:
    """Label maps of all images of an index by one parser.

    weights: the checkpoint; its SHA-256 enters the key, its path does not.
    """
    params = {
        "model": model,
        "flip": flip,
        "scales": [float(scale) for scale in scales],
        "options": dict(options or {}),
    }
    return Step(
        "maps",
        MAPS_VERSION,
        "parsing_models.work:parse",
        params,
        {"index": source},
        weights={"weights": sha256_file(weights)},
        files={"weights": str(weights)},
        resumable=True,
    )


def model(
    source: Step,
    recipe: Mapping[str, Any],
    *,
    seed: int,
    pretrained: str | Path = "none",
    label_maps: Step | None = None,
) -> Step:
    """A model trained by ``recipe`` (resolved, plain) on the train split of an index.

    pretrained: ``none``, ``openai`` or a file of weights to start from; of a file the SHA-256
    enters the key.
    """
    size, filter = recipe["input"]["size"], recipe["input"]["train_filter"]
    inputs = {"index": source, "images": images(source, size=size, filter=filter)}
    if label_maps is not None:
        inputs["maps"] = label_maps
    file = None if pretrained in ("none", "openai") else Path(pretrained)
    return Step(
        "model",
        MODEL_VERSION,
        "reid_train.work_train:train",
        {"recipe": dict(recipe), "seed": seed, "pretrained": "file" if file else str(pretrained)},
        inputs,
        weights={"pretrained": sha256_file(file)} if file else {},
        files={"pretrained": str(file)} if file else {},
        resumable=True,
        collective=True,
    )


def evaluation(
    trained: Step,
    target: Step,
    *,
    protocol: str,
    exclude: str,
    flip: bool = False,
    rerank: Mapping[str, Any] | None = None,
) -> Step:
    """Retrieval metrics of a model on the query and gallery splits of an index."""
    recipe = trained.params["recipe"]
    size, filter = recipe["input"]["size"], recipe["input"]["test_filter"]
    return Step(
        "evaluation",
        EVALUATION_VERSION,
        "reid_train.work_evaluate:evaluate",
        {
            "protocol": protocol,
            "exclude": exclude,
            "flip": flip,
            "rerank": dict(rerank) if rerank else None,
        },
        {
            "model": trained,
            "index": target,
            "images": images(target, size=size, filter=filter),
        },
    )


def report(title: str, evaluations: Sequence[Step], label_maps: Step | None = None) -> Step:
    """One HTML page that shows one or several evaluations side by side."""
    inputs: dict[str, Step] = {}
    for number, step in enumerate(evaluations):
        inputs[f"evaluation{number}"] = step
        inputs[f"model{number}"] = step.inputs["model"]
        inputs[f"index{number}"] = step.inputs["index"]
    if label_maps is not None:
        inputs["maps"] = label_maps
    return Step(
        "report",
        REPORT_VERSION,
        "reid_train.work_report:report",
        {"title": title, "evaluations": len(evaluations)},
        inputs,
    )
