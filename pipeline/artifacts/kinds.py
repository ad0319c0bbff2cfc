"""The kinds of steps there are: by name, who makes one and how. The only table of workers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What all steps of one name have in common.

    worker: ``"module:function"``, imported only in the process that executes the step; called as
    ``f(job: Job) -> dict``. version: raised by hand whenever the worker's output changes for equal
    parameters; it is in the key. resumable: the worker continues from the files an earlier,
    interrupted execution left. separate: each of its files stands alone: without a damaged one it
    makes that one again, and no other. collective: under torchrun every process executes it,
    otherwise the first one alone. gpu: it computes on a GPU where there is one. spread: its work
    over many images is tasks of their own on a cluster, which take what they need; itself it takes
    nothing. outside: ``"module:function"`` of what an artifact names that lies outside of it;
    called as ``f(folder, progress=...)``, it yields an error for each file that is another now.
    usable: ``"module:function"``, called as ``f(folder, workspace)`` before anything is made of an
    artifact; it raises for one that a person has to let through first.
    """

    worker: str
    version: int
    resumable: bool = False
    separate: bool = False
    collective: bool = False
    gpu: bool = False
    spread: bool = False
    outside: str = ""
    usable: str = ""


KINDS: dict[str, Kind] = {
    "index": Kind(
        "pipeline.datasets.work:index",
        2,
        spread=True,
        outside="pipeline.datasets.unchanged:changed_images",
        usable="pipeline.datasets.registration:check_allowed",
    ),
    "images": Kind("pipeline.images.work:pack", 1, spread=True),
    "maps": Kind(
        "parsing_models.work:parse", 2, resumable=True, separate=True, gpu=True, spread=True
    ),
    "exact": Kind("parsing_models.parsers.exact:read", 1),
    "centred": Kind("parsing_models.parsers.rewriting:centre", 1),
    "damaged": Kind("parsing_models.parsers.rewriting:damage", 1),
    "scores": Kind("parsing_models.scoring:score", 2),
    "comparison": Kind("parsing_models.comparison:compare", 2),
    "preview": Kind("parsing_models.preview:preview", 1),
    "features": Kind("reid_train.recipe.work:features", 3, gpu=True),
    "prompts": Kind("reid_train.recipe.work:prompts", 3, resumable=True, collective=True, gpu=True),
    "text": Kind("reid_train.recipe.work:text", 3, gpu=True),
    "model": Kind("reid_train.recipe.work:model", 3, resumable=True, collective=True, gpu=True),
    "epoch": Kind("pipeline.artifacts.epochs:take", 1),
    "evaluation": Kind("reid_train.evaluation.work:evaluate", 5, gpu=True),
    "report": Kind("reid_train.figures.work:report", 9, gpu=True),
    "activations": Kind("reid_train.figures.paper.work:activations", 2, gpu=True),
    "cells": Kind("reid_train.figures.paper.work:cells", 2, gpu=True),
    "checkpoint": Kind("reid_train.exchange.work:describe", 1),
    "shots": Kind("reid_train.classify.work:draw", 1),
    "class-features": Kind("reid_train.classify.work:features", 1, gpu=True),
    "learner": Kind("reid_train.classify.work:train", 3, resumable=True, collective=True, gpu=True),
    "accuracy": Kind("reid_train.classify.work:evaluate", 2, gpu=True),
    "retrieval": Kind("reid_train.classify.people:retrieve", 2, gpu=True),
}
# Kinds that load published weights: what finds these, or downloads them, called as ``f(steps,
# folder)`` with all such steps of a request before any is executed; it raises where it cannot.
WEIGHTS = {
    **dict.fromkeys(("features", "prompts", "text", "model"), "reid_train.recipe.weights:bring"),
    **dict.fromkeys(
        ("class-features", "learner", "accuracy", "retrieval"), "reid_train.classify.weights:bring"
    ),
}
# Without what tests add.
BUILT_IN = tuple(KINDS)
