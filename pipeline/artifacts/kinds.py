"""The kinds of steps there are: by name, who makes one and how. The only table of workers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What all steps of one name have in common.

    worker: ``"module:function"``, imported only in the process that executes the step; called as
    ``f(job: Job) -> dict``. version: raised by hand whenever the worker's output changes for equal
    parameters; it is in the key. resumable: the worker continues from the files an earlier,
    interrupted execution left. collective: under torchrun every process executes it, otherwise the
    first one alone. outside: ``"module:function"`` of what an artifact names that lies outside of
    it; called as ``f(folder, progress=...)``, it yields an error for each file that is another now.
    """

    worker: str
    version: int
    resumable: bool = False
    collective: bool = False
    outside: str = ""


KINDS: dict[str, Kind] = {
    "index": Kind(
        "pipeline.datasets.work:index",
        2,
        outside="pipeline.datasets.unchanged:changed_images",
    ),
    "images": Kind("pipeline.images.work:pack", 1),
    "maps": Kind("parsing_models.work:parse", 2, resumable=True),
    "centred": Kind("parsing_models.work:centre", 1),
    "scores": Kind("parsing_models.scoring:score", 2),
    "comparison": Kind("parsing_models.comparison:compare", 2),
    "preview": Kind("parsing_models.preview:preview", 1),
    "features": Kind("reid_train.recipe.work:features", 2),
    "prompts": Kind("reid_train.recipe.work:prompts", 2, resumable=True, collective=True),
    "text": Kind("reid_train.recipe.work:text", 2),
    "model": Kind("reid_train.recipe.work:model", 2, resumable=True, collective=True),
    "epoch": Kind("pipeline.artifacts.epochs:take", 1),
    "evaluation": Kind("reid_train.evaluation.work:evaluate", 4),
    "report": Kind("reid_train.figures.work:report", 5),
    "activations": Kind("reid_train.figures.paper.work:activations", 1),
    "cells": Kind("reid_train.figures.paper.work:cells", 1),
    "checkpoint": Kind("reid_train.exchange.work:describe", 1),
    "shots": Kind("reid_train.classify.work:draw", 1),
    "class-features": Kind("reid_train.classify.work:features", 1),
    "learner": Kind("reid_train.classify.work:train", 2, resumable=True, collective=True),
    "accuracy": Kind("reid_train.classify.work:evaluate", 2),
    "retrieval": Kind("reid_train.classify.people:retrieve", 2),
}
