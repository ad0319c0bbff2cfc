"""Evaluations as steps, and their figures as lines of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.artifacts import requests
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.datasets.catalogue import defined
from pipeline.datasets.manifest import Protocol
from pipeline.datasets.sources import index_step
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.publishing import Column, Table
from reid_train.evaluation.compared import EMBEDDING, check_feature
from reid_train.evaluation.protocols import find_protocol
from reid_train.models import COSINE, Distance

ELSEWHERE = "imported"  # where a model was trained of which nobody said where
METRICS_FILE = "metrics.json"
MEASURES = ("mAP", "Rank-1", "Rank-5", "Rank-10", "mINP")
METRIC_COLUMNS = ["run", *MEASURES, "queries", "gallery"]


def measure(metrics: Mapping[str, Any], name: str) -> float:
    """A figure of ``metrics.json``, or of its re-ranking, in 0..1: "mAP", "mINP" or "Rank-N".

    Raises KeyError for a rank that is not stored.
    """
    rank = name.removeprefix("Rank-")
    return metrics["cmc"][rank] if rank != name else metrics[name]


def measures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """All of ``MEASURES`` by name, in 0..1."""
    return {name: measure(metrics, name) for name in MEASURES}


def metrics_row(name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """One line of the metrics table; shares as percent."""
    return {
        "run": name,
        **{column: 100 * share for column, share in measures(metrics).items()},
        "queries": metrics["valid_queries"],
        "gallery": metrics["gallery"],
    }


def publication(rows: Sequence[tuple[str, dict[str, Any], str]]) -> Table:
    """Evaluations as a table for a paper; the best of each dataset is marked. rows: name, content
    of metrics.json, protocol line. What was re-ranked has a second row.
    """
    listed = []
    for name, metrics, protocol in rows:
        listed.append((name, metrics, protocol))
        if again := metrics.get("rerank"):
            told = f"{protocol}; {rerank_words(metrics)}"
            listed.append((f"{name} re-ranked", {**metrics, **again}, told))
    shown = [
        {
            "run": name,
            "dataset": metrics["dataset"],
            **measures(metrics),
            "queries": metrics["valid_queries"],
            "gallery": metrics["gallery"],
        }
        for name, metrics, _ in listed
    ]
    several = len({row["dataset"] for row in shown}) > 1
    counts = ("queries", "gallery")
    columns = [
        Column(name, "text" if name == "run" else "count" if name in counts else "percent",
               best=name not in ("run", *counts))
        for name in METRIC_COLUMNS
    ]  # fmt: skip
    columns[1:1] = [Column("dataset")] if several else []
    return Table(
        columns,
        shown,
        [protocol for _, _, protocol in listed],
        compared=("dataset",),
        about="Retrieval of people",
    )


def protocol_line(metrics: dict[str, Any], step: Step) -> str:
    """What the numbers depend on, in one line to print beside them."""
    height, width = step.inputs["images"].params["size"]
    flip = "with" if step.params["flip"] else "no"
    words = "".join(f"{said}, " for said in counting_words(metrics))
    return (
        f"protocol: {metrics['dataset']} {metrics['protocol']}, excluded {metrics['exclude']}, "
        f"{words}{metrics['valid_queries']} of {metrics['queries']} queries valid, "
        f"{height}x{width}, {flip} flip, {distance_words(metrics)}; "
        f"index {step.inputs['index'].key[:8]}"
    )


def distance_words(metrics: dict[str, Any]) -> str:
    """Which distance, and of which output of the model where it is not the embedding."""
    feature = metrics.get("feature")
    return f"{metrics.get('distance', COSINE)} distance{f' of {feature}' if feature else ''}"


def counting_words(metrics: dict[str, Any]) -> list[str]:
    """What is unusual about a protocol: drawn galleries, tracks, a CMC of people."""
    words = []
    trials, shots = metrics.get("trials", 1), metrics.get("shots")
    if shots is not None:
        images = "image" if shots == 1 else "images"
        words.append(
            f"mean of {trials} galleries of {shots} {images} per person and camera drawn by "
            f"{metrics.get('drawn_by') or 'nobody knows whom'}"
        )
    elif trials > 1:
        words.append(f"mean of {trials} drawn galleries")
    if metrics.get("unit") == "track":
        words.append("tracks ranked by their nearest images")
    if metrics.get("cmc_counts") == "identities":
        words.append("CMC of people")
    return words


def rerank_words(metrics: dict[str, Any]) -> str:
    """How the figures under ``rerank`` were re-ranked, with its parameters."""
    options = ", ".join(f"{key} {metrics['rerank'][key]}" for key in ("k1", "k2", "lam"))
    return f"k-reciprocal re-ranking, {options}"


def evaluation_step(
    terminal: Terminal,
    model: Step,
    *,
    dataset: str | Step | None = None,
    protocol: str | None = None,
    exclude: str | None = None,
    flip: bool = False,
    rerank: bool = False,
    distance: str | None = None,
    feature: str | None = None,
) -> Step:
    """The evaluation step of a model, with what the dataset and the recipe say by default.
    dataset: a name, or its index; None for what it was trained on. distance: None for the model's
    own, as is naming that one; likewise feature, for the embedding.

    Raises ReidpipeError for an imported model when no dataset is named: it was trained elsewhere.
    """
    if dataset is None and "index" not in model.inputs and model.params["dataset"] != ELSEWHERE:
        dataset = model.params["dataset"]
    if dataset is None and "index" not in model.inputs:
        raise ReidpipeError(
            f"found an imported model ('{model.params['recipe']['name']}') and no dataset; "
            "expected one to evaluate it on; type reidpipe eval RUN --dataset mannequins"
        )
    if isinstance(dataset, str):
        dataset = index_step(terminal.workspace, dataset, make=terminal.make)
    target = dataset or model.inputs["index"]
    name, own = target.params["dataset"], target.params.get("definition")
    manifest = defined(name, own)
    default = manifest.default_protocol if manifest else Protocol(name="standard")
    chosen = find_protocol(name, protocol, own) if protocol else default
    return requests.evaluation(
        model,
        target,
        protocol=chosen.name,
        exclude=exclude or chosen.exclude,
        flip=flip or model.params["recipe"]["test"]["flip"],
        rerank={"k1": 20, "k2": 6, "lam": 0.3} if rerank else None,
        distance=None if distance == distance_of(model) else distance,
        feature=None if feature == EMBEDDING else feature,
    )


def distance_of(model: Step) -> Distance:
    """How the features of a model are compared, as its recipe says: "cosine" or "euclidean"."""
    return model.params["recipe"]["test"].get("distance", COSINE)


def check_evaluable(workspace: Workspace, step: Step, *, run: str | None) -> None:
    """Raise ReidpipeError, before anything is computed, for an evaluation that its index, which
    exists, has no labels or no images for, or of an output that its model does not have. run: the
    run's name, for messages; None: not trained.
    """
    from pipeline.datasets.index import read_index
    from reid_train.evaluation.needs import check_test

    index = read_index(workspace.folder(step.inputs["index"]))
    check_test(index, step.params, run=run)
    if feature := step.params.get("feature"):
        check_feature(step.inputs["model"].params["recipe"], feature)
