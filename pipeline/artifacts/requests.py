"""What a command asks for, as steps: dataset, packed pixels, label maps, model, evaluation, report.

Everything here is plain data: recipes arrive as dictionaries, parsers and workers as names, so a
request can be keyed, compared and found complete without importing a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts.atomic import sha256_file
from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import ReidpipeError

INDEX_VERSION = 2
IMAGES_VERSION = 1
MAPS_VERSION = 2
SCORES_VERSION = 1
COMPARISON_VERSION = 2
PREVIEW_VERSION = 1
FEATURES_VERSION = 1
PROMPTS_VERSION = 1
TEXT_VERSION = 1
MODEL_VERSION = 1
EVALUATION_VERSION = 1
REPORT_VERSION = 3


def index(dataset: str, *, worker: str, params: Mapping[str, Any]) -> Step:
    """The index table of a dataset (``id`` or ``id:variant``).

    worker: ``pipeline.datasets.work:index`` for images on disk, ``pipeline.mannequins:render`` for
    generated people. params: what that worker reads; for images on disk it holds a fingerprint of
    the tree, so that changed files are indexed again.
    """
    return Step("index", INDEX_VERSION, worker, {"dataset": dataset, **params})


def images(source: Step, *, size: Sequence[int], filter: str) -> Step:
    """All images of an index resized to ``size`` (H, W) with a named PIL filter, as uint8 RGB."""
    params = {"size": list(size), "filter": filter}
    return Step("images", IMAGES_VERSION, "pipeline.images.work:pack", params, {"index": source})


def maps(
    source: Step,
    *,
    model: str,
    weights: Path,
    parts: Mapping[str, Path] | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    options: Mapping[str, Any] | None = None,
    precision: str = "fp32",
) -> Step:
    """Label maps of all images of an index by one parser.

    precision: of its network, ``fp32``, ``bf16`` or ``fp16``. weights: the checkpoint; its SHA-256
    enters the key, its path does not. A checkpoint that is a folder names its files in ``parts``
    (name -> path), each of which enters the key.
    """
    params = {
        "model": model,
        "flip": flip,
        "scales": [float(scale) for scale in scales],
        "options": dict(options or {}),
    }
    if precision != "fp32":
        params["precision"] = precision
    return Step(
        "maps",
        MAPS_VERSION,
        "parsing_models.work:parse",
        params,
        {"index": source},
        weights={name: sha256_file(path) for name, path in (parts or {"weights": weights}).items()},
        files={"weights": str(weights)},
        resumable=True,
    )


def scores(source: Step, label_maps: Step, *, truth: str | None) -> Step:
    """Label maps against an index's ground truth. truth: the label set it is in, if known."""
    inputs = {"index": source, "maps": label_maps}
    return Step("scores", SCORES_VERSION, "parsing_models.scoring:score", {"truth": truth}, inputs)


def comparison(source: Step, first: Step, second: Step, *, names: Sequence[str]) -> Step:
    """Label maps of two parsers against each other; ``names`` are written on the sheet."""
    return Step(
        "comparison",
        COMPARISON_VERSION,
        "parsing_models.comparison:compare",
        {"names": list(names)},
        {"index": source, "first": first, "second": second},
    )


def preview(source: Step, label_maps: Step, *, name: str, images: int) -> Step:
    """Pictures of the label maps of a few images; ``name`` is written on the sheet."""
    return Step(
        "preview",
        PREVIEW_VERSION,
        "parsing_models.preview:preview",
        {"name": name, "images": images},
        {"index": source, "maps": label_maps},
    )


def model(
    source: Step,
    recipe: Mapping[str, Any],
    *,
    seed: int,
    pretrained: str | Path = "none",
    teacher: str | Path = "none",
    label_maps: Step | None = None,
) -> Step:
    """A model trained by ``recipe`` (resolved, plain) on the train split of an index.

    pretrained: ``none``, ``openai``, ``imagenet`` or a file of weights to start from; of a file the
    SHA-256 enters the key. A recipe with a text side stands on its texts, each part of which is an
    artifact that other recipes share: frozen features, prompts per stage, the table of rows. They
    come from the model's own start, or from that of its teacher, which ``teacher`` names likewise.
    """
    start = _start(pretrained)
    size, filter = recipe["input"]["size"], recipe["input"]["train_filter"]
    inputs = {"index": source, "images": images(source, size=size, filter=filter)}
    if label_maps is not None:
        inputs["maps"] = label_maps
    if recipe["model"]["text"] is not None:
        encoder = _start(teacher) if recipe["model"].get("teacher") else start
        inputs["text"] = _texts(source, recipe, seed, encoder, label_maps)
    return Step(
        "model",
        MODEL_VERSION,
        "reid_train.recipe.work:model",
        {"recipe": _image_side(recipe), "seed": seed, **start["params"]},
        inputs,
        weights=start["weights"],
        files=start["files"],
        resumable=True,
        collective=True,
    )


def _start(pretrained: str | Path) -> dict[str, dict[str, Any]]:
    """How weights to start from enter a step."""
    if pretrained in ("none", "openai", "imagenet"):
        return {"params": {"pretrained": str(pretrained)}, "weights": {}, "files": {}}
    return {
        "params": {"pretrained": "file"},
        "weights": {"pretrained": sha256_file(Path(pretrained))},
        "files": {"pretrained": str(pretrained)},
    }


def _drawn(seed: int, start: Mapping[str, dict[str, Any]]) -> int:
    """The seed of frozen weights: it says nothing about weights that come from a file."""
    return seed if start["params"]["pretrained"] == "none" else 0


def _image_side(recipe: Mapping[str, Any]) -> dict[str, Any]:
    # Prompt stages and their encoder are other steps: what they leave is in the key through the
    # inputs.
    stages = [stage for stage in recipe["stages"] if stage["data"]["kind"] != "features"]
    model = {name: value for name, value in recipe["model"].items() if name != "teacher"}
    return {**recipe, "model": model, "stages": stages}


def _texts(
    source: Step,
    recipe: Mapping[str, Any],
    seed: int,
    start: Mapping[str, dict[str, Any]],
    label_maps: Step | None,
) -> Step:
    """The table of text rows at the end of a recipe's prompt stages."""
    spec = recipe["model"]["text"]
    # What is asked of the text side later must not part the steps that come before.
    early = {**spec, "parts": "none"}
    prompts: Step | None = None
    for stage in recipe["stages"]:
        if stage["data"]["kind"] != "features":
            continue
        with_parts = stage["data"]["parts"]
        inputs = {"features": _features(source, recipe, seed, start, with_parts, label_maps)}
        if prompts is not None:
            inputs["prompts"] = prompts
        prompts = Step(
            "prompts",
            PROMPTS_VERSION,
            "reid_train.recipe.work:prompts",
            {"text": early, "stage": stage, "seed": seed, **start["params"]},
            inputs,
            weights=start["weights"],
            files=start["files"],
            resumable=True,
            collective=True,
        )
    if prompts is None:
        raise ValueError(f"recipe '{recipe['name']}' has a text side and no stage on features")
    inputs = {"prompts": prompts}
    if spec["parts"] != "none":
        inputs["maps"] = _needed(label_maps, recipe)
    return Step(
        "text",
        TEXT_VERSION,
        "reid_train.recipe.work:text",
        {"text": spec, "seed": _drawn(seed, start), **start["params"]},
        inputs,
        weights=start["weights"],
        files=start["files"],
    )


def _features(
    source: Step,
    recipe: Mapping[str, Any],
    seed: int,
    start: Mapping[str, dict[str, Any]],
    with_parts: bool,
    label_maps: Step | None,
) -> Step:
    given = recipe["input"]
    # A teacher has mean and std of its own; without one they are the input's.
    encoder = recipe["model"].get("teacher") or {**given, **recipe["model"]}
    side = ("cameras", "views", "sie_coefficient")  # no side information in frozen features
    options = {k: v for k, v in encoder["options"].items() if k not in side}
    inputs = {
        "index": source,
        "images": images(source, size=given["size"], filter=given["test_filter"]),
    }
    if with_parts:
        inputs["maps"] = _needed(label_maps, recipe)
    trunk = {
        "trunk": encoder["trunk"],
        "options": options,
        "mean": encoder["mean"],
        "std": encoder["std"],
        "input_size": given["size"],
    }
    return Step(
        "features",
        FEATURES_VERSION,
        "reid_train.recipe.work:features",
        {"model": trunk, "parts": with_parts, "seed": _drawn(seed, start), **start["params"]},
        inputs,
        weights=start["weights"],
        files=start["files"],
    )


def _needed(label_maps: Step | None, recipe: Mapping[str, Any]) -> Step:
    if label_maps is None:
        raise ReidpipeError(
            f"found no label maps for recipe '{recipe['name']}', which is about body parts; "
            "expected those of a parser; type --parsing schp-tiny"
        )
    return label_maps


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
        "reid_train.evaluation.work:evaluate",
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
        "reid_train.figures.work:report",
        {"title": title, "evaluations": len(evaluations)},
        inputs,
    )
