"""How many people and images a recipe needs to train on, told once the index is there and before
hours of other work."""

from __future__ import annotations

from pipeline.datasets.index import Index
from pipeline.terminal.errors import ReidpipeError
from reid_train.recipe.schema import IdentityBatches, Recipe, Shuffled, Stage


def check_numbers(recipe: Recipe, index: Index, *, typed: str) -> None:
    """Raise ReidpipeError where the train split of ``index`` is empty, shows one person only, or
    fills no batch of a stage. typed: the dataset as it was typed.
    """
    rows = index.split("train")
    if not rows:
        splits = ", ".join(sorted({row.split for row in index.rows}))
        raise ReidpipeError(
            f"found no training image in {typed}, which has {splits}; expected rows with split "
            f"train; type reidpipe train {recipe.name} --dataset D with another dataset, or "
            f"reidpipe prepare {typed} --root DIR with one that has them"
        )
    if recipe.label_free:
        return
    people = len(index.pids("train"))
    if people < 2:
        raise ReidpipeError(
            f"found 1 person ({len(rows)} images) to train on in {typed}; expected at least 2, for "
            "a model learns to tell people apart; add images of other people and type "
            f"reidpipe prepare {typed}"
        )
    for stage in recipe.stages:
        _check_batch(recipe, stage, people, len(rows))


def _check_batch(recipe: Recipe, stage: Stage, people: int, images: int) -> None:
    """A stage whose epochs have a fixed number of batches makes smaller ones; prompts likewise."""
    data = stage.data
    if isinstance(data, IdentityBatches) and data.iterations is None and people < data.ids:
        raise ReidpipeError(
            f"found {people} people to train on; expected at least {data.ids} for a batch of stage "
            f"'{stage.name}' of {recipe.name}; type --set stages.{stage.name}.data.ids={people}"
        )
    if isinstance(data, Shuffled):
        images *= 2 if data.flipped_copies else 1
        if images < data.batch:
            raise ReidpipeError(
                f"found {images} training images; expected at least {data.batch} for a batch of "
                f"stage '{stage.name}' of {recipe.name}; type "
                f"--set stages.{stage.name}.data.batch={images}"
            )
