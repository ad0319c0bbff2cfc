"""The stages of a recipe: which batches, what steps, which hooks."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from pipeline.plugins.options import check_options
from pipeline.terminal.errors import ReidpipeError
from reid_train.data import SAMPLERS
from reid_train.data.augmentation import Augmentation
from reid_train.data.dataset import ReidBatches, TrainingSet
from reid_train.data.sampler import Sampler
from reid_train.engine import SCHEDULES
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime, derive_seed, on_cpu
from reid_train.engine.schedules import Schedule
from reid_train.engine.task import BatchSource, Hook, Stage
from reid_train.hooks import HOOKS
from reid_train.recipe import schema
from reid_train.recipe.making import check_fields, make

_SAMPLER = ("batch", "together", "__len__", "epoch")
_HOOK = ("begin_stage", "begin_epoch", "after_step", "state_dict", "load_state_dict")


def training_set(recipe: schema.Recipe, images: Any, rows: list, maps: Any = None) -> TrainingSet:
    """The images all stages train on. Raises ReidpipeError when ``flipped_copies`` differs between
    stages."""
    copies = {getattr(stage.data, "flipped_copies", False) for stage in recipe.image_stages}
    if len(copies) > 1:
        raise ReidpipeError(
            "found flipped_copies in some stages only; expected the same in all stages"
        )
    if images.size != recipe.input.size:
        raise ReidpipeError(
            f"found packed images of size {images.size}; expected {recipe.input.size}; "
            "type reidpipe prepare"
        )
    return TrainingSet(
        images,
        rows,
        maps=maps,
        flipped_copies=copies.pop(),
        labelled=not recipe.label_free,
    )


def build_stages(
    recipe: schema.Recipe, data: TrainingSet, *, seed: int, runtime: Runtime | None = None
) -> list[Stage]:
    """The recipe's stages over images. ``runtime``: where hooks compute; they need one."""
    where: dict[str, Any] = {}
    if runtime is not None:
        planar = on_cpu(runtime.device) and not recipe.channels_last
        where = {"threads": runtime.loaders, "pinned": runtime.pins, "planar": planar}
    return [
        _image_stage(stage, data, derive_seed(seed, "data", stage.name), runtime, where)
        for stage in recipe.image_stages
    ]


def build_stage(stage: schema.Stage, batches: BatchSource) -> Stage:
    """A recipe's stage over a source of batches, without its hooks."""
    return Stage(
        stage.name,
        stage.epochs,
        batches,
        Optimiser(**{f.name: getattr(stage.optimiser, f.name) for f in fields(Optimiser)}),
        build_schedule(stage),
        stage.trains,
        stage.accumulate,
        stage.clip,
        stage.ema,
    )


def check_stage(stage: schema.Stage) -> None:
    """Raise ReidpipeError for options that a stage's schedule, sampler or hooks do not take. Those
    two ask for the training images and are not made.
    """
    build_schedule(stage)
    if not isinstance(stage.data, schema.Features):
        check_options(SAMPLERS[stage.data.kind], *_sampler_options(stage))
    for number, spec in enumerate(stage.hooks):
        check_options(HOOKS[spec.hook], spec.options, f"hooks.{number}")


def build_schedule(stage: schema.Stage) -> Schedule:
    """The factor on a stage's learning rates."""
    options = stage.schedule.model_dump()
    kind = options.pop("kind")
    schedule = make(SCHEDULES, kind, options, f"stages.{stage.name}.schedule")
    check_fields(schedule, ["__call__"], f"schedule '{kind}'")
    return schedule


def _image_stage(
    stage: schema.Stage,
    data: TrainingSet,
    seed: int,
    runtime: Runtime | None,
    where: dict[str, Any],
) -> Stage:
    """where: what of ``ReidBatches`` follows from the device."""
    assert not isinstance(stage.data, schema.Features)
    augmentation = Augmentation(**stage.data.augment.model_dump())
    batches = ReidBatches(data, _sampler(stage, data, seed), augmentation, seed=seed, **where)
    if not stage.hooks:
        return build_stage(stage, batches)
    if runtime is None:
        raise ValueError(f"the hooks of stage '{stage.name}' need a runtime")
    if data.cameras.max() < 0 and any(loss.loss == "camera-prototypes" for loss in stage.losses):
        raise ReidpipeError(
            "found no image with a camid; expected cameras, as loss camera-prototypes compares "
            "them; leave that loss out of the recipe"
        )
    hooks: list[Hook] = []
    for number, spec in enumerate(stage.hooks):
        given = {"batches": batches, "runtime": runtime}
        hook = make(HOOKS, spec.hook, spec.options, f"hooks.{number}", given)
        check_fields(hook, _HOOK, f"hook '{spec.hook}'")
        hooks.append(hook)
    return replace(build_stage(stage, batches), hooks=hooks)


def _sampler(stage: schema.Stage, data: TrainingSet, seed: int) -> Sampler:
    options, path = _sampler_options(stage)
    kind = stage.data.kind
    # A hook that finds labels of its own must have no way to an identity.
    labels = np.full(len(data), -1) if stage.clusters else data.labels
    given = {"labels": labels, "seed": seed, "camids": data.camids, "cameras": data.cameras}
    sampler = make(SAMPLERS, kind, options, path, given)
    check_fields(sampler, _SAMPLER, f"sampler '{kind}'")
    return sampler


def _sampler_options(stage: schema.Stage) -> tuple[dict[str, Any], str]:
    """Options of a stage's sampler, and where the recipe says them."""
    options = stage.data.model_dump(exclude={"kind", "augment", "flipped_copies"})
    return options, f"stages.{stage.name}.data"
