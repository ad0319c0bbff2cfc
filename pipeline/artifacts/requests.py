"""What a command asks for, as steps: dataset, packed pixels, label maps, evaluation, report.

Everything here is plain data, so a request can be keyed, compared and found complete without
importing a network. What recipes ask for is in ``reid_train.recipe.steps``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts.atomic import sha256_file
from pipeline.artifacts.epochs import trained
from pipeline.artifacts.steps import Step
from pipeline.images.decoding import decoding_of, decoding_params
from pipeline.plugins import digests


def index(dataset: str, params: Mapping[str, Any], readers: Sequence[str] = ()) -> Step:
    """The index table of a dataset (``id`` or ``id:variant``). readers: of its layouts, for those
    that a plugin has.

    params: of generated people what draws them; for images on disk where they are, with a
    fingerprint of the tree, so that changed files are indexed again.
    """
    used = [("layout", name) for name in readers]
    return Step("index", {"dataset": dataset, **params}, weights=digests(used))


def images(source: Step, *, size: Sequence[int], filter: str) -> Step:
    """All images of an index resized to ``size`` (H, W) with a named PIL filter, as uint8 RGB;
    decoded as the dataset says."""
    params = {"size": list(size), "filter": filter, **_decoding(source)}
    return Step("images", params, {"index": source})


def _decoding(source: Step) -> dict[str, Any]:
    return decoding_params(decoding_of(source.params))


def maps(
    source: Step,
    *,
    model: str,
    weights: Path | None,
    parts: Mapping[str, Path] | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    options: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    one_sided: bool = False,
) -> Step:
    """Label maps of all images of an index by one parser.

    precision: of its network, ``fp32``, ``bf16`` or ``fp16``. one_sided: whether it flips for a
    network that gives both sides of a limb one class. weights: the checkpoint, if it has
    one; its SHA-256 enters the key, its path does not. A checkpoint that is a folder names its
    files in ``parts`` (name -> path), each of which enters the key.
    """
    params = {
        "model": model,
        "flip": flip,
        "scales": [float(scale) for scale in scales],
        "options": dict(options or {}),
        **_decoding(source),
    }
    if precision != "fp32":
        params["precision"] = precision
    if one_sided:
        # Such limbs were once lost in the mirrored image: the key of these maps alone must be
        # another.
        params["one_sided"] = "kept"
    given = {} if weights is None else {"weights": weights}
    return Step(
        "maps",
        params,
        {"index": source},
        weights={
            **{name: sha256_file(path) for name, path in (parts or given).items()},
            **digests([("parser", model)]),
        },
        files={name: str(path) for name, path in given.items()},
    )


def centred(label_maps: Step) -> Step:
    """The same label maps with the central body alone where there are two."""
    return Step("centred", {"model": label_maps.params["model"]}, {"maps": label_maps})


def exact(source: Step, *, truth: str) -> Step:
    """The label maps that the images of an index came with. truth: the label set they are in."""
    return Step("exact", {"model": "exact", "truth": truth}, {"index": source})


def damaged(label_maps: Step, amounts: Mapping[str, float], *, name: str) -> Step:
    """The same label maps, damaged by these amounts. name: what they are called."""
    return Step("damaged", {"model": name, "amounts": dict(amounts)}, {"maps": label_maps})


def index_of(label_maps: Step) -> Step:
    """The index that label maps are of, whatever they were made from."""
    step = label_maps
    while "maps" in step.inputs:
        step = step.inputs["maps"]
    return step.inputs["index"]


def scores(source: Step, label_maps: Step, *, truth: str | None) -> Step:
    """Label maps against an index's ground truth. truth: the label set it is in, if known."""
    inputs = {"index": source, "maps": label_maps}
    return Step("scores", {"truth": truth}, inputs)


def comparison(source: Step, first: Step, second: Step, *, names: Sequence[str]) -> Step:
    """Label maps of two parsers against each other; ``names`` are written on the sheet."""
    return Step(
        "comparison",
        {"names": list(names)},
        {"index": source, "first": first, "second": second},
    )


def preview(source: Step, label_maps: Step, *, name: str, images: int) -> Step:
    """Pictures of the label maps of a few images; ``name`` is written on the sheet."""
    return Step(
        "preview",
        {"name": name, "images": images},
        {"index": source, "maps": label_maps},
    )


def evaluation(
    model: Step,
    target: Step,
    *,
    protocol: str,
    exclude: str,
    flip: bool = False,
    rerank: Mapping[str, Any] | None = None,
    distance: str | None = None,
    feature: str | None = None,
) -> Step:
    """Retrieval metrics of a model on the query and gallery splits of an index. distance: None for
    the model's own. feature: of its outputs; None for the embedding.
    """
    # Each view's outputs were once normalised and then added: the key of such evaluations alone
    # must be another.
    added = {"normalised": "after-flip"} if feature and "+" in feature and flip else {}
    recipe = model.params["recipe"]
    size, filter = recipe["input"]["size"], recipe["input"]["test_filter"]
    return Step(
        "evaluation",
        {
            "protocol": protocol,
            "exclude": exclude,
            "flip": flip,
            "rerank": dict(rerank) if rerank else None,
            **({"distance": distance} if distance else {}),
            **({"feature": feature} if feature else {}),
            **added,
        },
        {
            "model": model,
            "index": target,
            "images": images(target, size=size, filter=filter),
        },
    )


def report(
    title: str,
    evaluations: Sequence[Step],
    label_maps: Step | None = None,
    *,
    date: str | None = None,
    kept: Callable[[Step], bool] = lambda _: True,
) -> Step:
    """One HTML page that shows one or several evaluations side by side. date: written on it; None:
    it bears none. kept: whether the log of a stage before a model is there to be drawn, of which
    there may be several; it is not made anew for its curve.
    """
    inputs: dict[str, Step] = {}
    for number, step in enumerate(evaluations):
        model = step.inputs["model"]
        inputs[f"evaluation{number}"] = step
        inputs[f"model{number}"] = model
        inputs[f"index{number}"] = step.inputs["index"]
        stages = [stage for stage in earlier_stages(model) if kept(stage)]
        inputs |= {f"stage{number}_{place}": stage for place, stage in enumerate(stages)}
    if label_maps is not None:
        inputs["maps"] = label_maps
    dated = {} if date is None else {"date": date}
    # Pages of such runs once told another command: their key alone must be another.
    starts = ["start" in trained(step.inputs["model"]).inputs for step in evaluations]
    further = {"trained_by": "continue"} if any(starts) else {}
    params = {"title": title, "evaluations": len(evaluations), **dated, **further}
    return Step("report", params, inputs)


def maps_read(model: Step) -> Step | None:
    """The label maps that the training of a model, or of an epoch of one, read, if it did."""
    return trained(model).inputs.get("maps")


def earlier_stages(model: Step) -> list[Step]:
    """The stages on frozen features that the texts of a model, or of an epoch of one, come from, in
    order of training.
    """
    found: list[Step] = []
    step = trained(model).inputs.get("text")
    while step is not None and (step := step.inputs.get("prompts")) is not None:
        found.insert(0, step)
    return found
