"""Training steps through the one loop, as ``reidpipe train`` takes them."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import device, people
from benchmarks.gpu.given import Given
from benchmarks.gpu.sizes import small_settings
from reid_train.engine import loop
from reid_train.engine.log import LOG, read_log
from reid_train.engine.runtime import Runtime
from reid_train.engine.task import BatchSource, Hook, ReidTask, Stage
from reid_train.models.text_table import TextTable
from reid_train.recipe.assembly import build_task, build_terms, count_sides
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.prompt_task import OUTPUTS, PromptTask
from reid_train.recipe.schema import Features, Recipe
from reid_train.recipe.stages import build_stage, build_stages, training_set
from reid_train.recipe.texts import build_texts, tower_sizes


class Over(Exception):
    """All steps were taken."""


class Watch(Hook):
    """Takes the time of ``steps`` steps after ``warmup`` others, and ends the training then."""

    def __init__(self, runtime: Runtime, warmup: int, steps: int) -> None:
        self.runtime, self.warmup, self.steps = runtime, warmup, steps
        self.count, self.started, self.seconds = 0, 0.0, 0.0

    def after_step(self, task: ReidTask) -> None:
        del task
        self.count += 1
        if self.count == self.warmup:
            self.runtime.synchronise()
            device.forget_peak(self.runtime)
            self.began()
            self.started = time.perf_counter()
        elif self.count == self.warmup + self.steps:
            self.runtime.synchronise()
            self.seconds = time.perf_counter() - self.started
            raise Over

    def began(self) -> None:
        """The measured steps begin."""


class Timed:
    """A source of batches, with the seconds that the training waited for them."""

    def __init__(self, source: BatchSource) -> None:
        self.source, self.waited = source, 0.0

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        batches = self.source.epoch(epoch, rank, world)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch


class Untimed(Watch):
    """Of which waits for batches count from the first measured step on."""

    def __init__(self, runtime: Runtime, warmup: int, steps: int, source: Timed) -> None:
        super().__init__(runtime, warmup, steps)
        self.source = source

    def began(self) -> None:
        self.source.waited = 0.0


def of_images(given: Given, recipe: str, precision: str, compiled: bool = False) -> dict[str, Any]:
    """Steps of the stage on images of ``recipe``."""
    runtime = Runtime.create(given.device, precision)
    task, stage, channels_last = image_stage(given, recipe, runtime)
    operations = count_operations(task, stage, runtime)
    if compiled:
        task.model.trunk.compile(backend=given.sizes.compiler)
    found = taken(given, task, stage, runtime, channels_last=channels_last)
    return {"recipe": recipe, "precision": precision, **rates(given, found, operations)}


def of_prompts(given: Given, recipe: str, precision: str, stage: int = 0) -> dict[str, Any]:
    """Steps of a stage of ``recipe`` that tunes prompts."""
    runtime = Runtime.create(given.device, precision)
    task, built = prompt_stage(given, recipe, stage)
    operations = count_operations(task, built, runtime)
    found = taken(given, task, built, runtime, channels_last=False)
    return {
        "recipe": recipe, "stage": built.name, "precision": precision,
        **rates(given, found, operations),
    }  # fmt: skip


def beside(given: Given, recipe: str, base: str, precision: str) -> dict[str, Any]:
    """What a step of ``recipe`` takes beside one of ``base``, both in one process."""
    first, second = (of_images(given, name, precision) for name in (base, recipe))
    return {**second, "base": base, "base_step_ms": first["step_ms"],
            "more": second["step_ms"] / first["step_ms"] - 1}  # fmt: skip


def settings_of(given: Given, recipe: str) -> dict[str, str]:
    """What a recipe's values become: the batch, its number, and in a rehearsal the sizes."""
    sizes = given.sizes
    ids, shots = sizes.batch
    settings = {
        "stages.image.data.ids": str(ids),
        "stages.image.data.images_per_id": str(shots),
        # An epoch of any length, whatever the number of people: none ends while it is measured.
        "stages.image.data.iterations": str(sizes.warmup + sizes.steps + 1),
        **small_settings(sizes, recipe),
    }
    if "sie" in recipe or recipe == "pi-vl-vit":
        settings["model.options.cameras"] = str(sizes.cameras)
    return settings


def image_stage(given: Given, name: str, runtime: Runtime) -> tuple[Any, Stage, bool]:
    """Task and stage of ``name`` on made-up people, and whether it trains channels-last."""
    recipe = load_recipe(name, settings_of(given, name))
    rows = people.rows_of(given.sizes, recipe.input.size)
    recipe = count_sides(recipe, rows)
    maps = people.label_maps(given.folder, given.sizes) if recipe.reads_maps else None
    images = people.packed(given.folder, given.sizes, recipe.input.size)
    data = training_set(recipe, images, rows, maps)
    task = build_task(recipe, classes=len(data.pids), texts=_texts(given, recipe))
    (stage,) = build_stages(recipe, data, seed=0, runtime=runtime)
    return task, stage, recipe.channels_last


def _texts(given: Given, recipe: Recipe) -> TextTable | None:
    text = recipe.model.text
    if text is None:
        return None
    return people.texts(given.sizes, tower_sizes(text)["output_dim"], text.parts)


def prompt_stage(given: Given, name: str, number: int) -> tuple[Any, Stage]:
    """Task and stage of the prompts of ``name`` on made-up features."""
    sizes = given.sizes
    recipe = load_recipe(name, settings_of(given, name))
    assert recipe.model.text is not None
    stage = recipe.prompt_stages[number]
    assert isinstance(stage.data, Features)
    texts = build_texts(recipe.model.text, classes=sizes.identities, pretrained="none")
    frozen = people.features(
        sizes, tower_sizes(recipe.model.text)["output_dim"], parts=stage.data.parts
    )
    task = PromptTask(texts, {stage.name: build_terms(stage, OUTPUTS)}, frozen.part_names)
    return task, build_stage(stage, people.feature_batches(sizes, frozen, stage.data))


def count_operations(task: Any, stage: Stage, runtime: Runtime) -> float:
    """Floating-point operations of one step by torch's counter, forward and backward; a product
    of matrices is 2 for each multiplication.
    """
    runtime.place(task)
    task.train()
    task.begin_stage(stage.name)
    chosen = stage.select([name for name, p in task.named_parameters() if p.requires_grad])
    before = {name: p.requires_grad for name, p in task.named_parameters()}
    for name, parameter in task.named_parameters():
        parameter.requires_grad_(name in chosen)
    batch = runtime.move(next(stage.batches.epoch(0, 0, 1)))
    with FlopCounterMode(display=False) as counter:
        with runtime.autocast():
            losses, _ = task(batch)
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    task.zero_grad(set_to_none=True)
    for name, parameter in task.named_parameters():
        parameter.requires_grad_(before[name])
    return float(counter.get_total_flops())


def taken(
    given: Given,
    task: Any,
    stage: Stage,
    runtime: Runtime,
    *,
    channels_last: bool,
    watch: type[Untimed] = Untimed,
) -> dict[str, Any]:
    """Train until enough steps were taken. Returns their seconds, the images of a step, seconds of
    waiting for batches, GiB of tensors at most and the last loss.
    """
    source = Timed(stage.batches)
    hook = watch(runtime, given.sizes.warmup, given.sizes.steps, source)
    stage = replace(stage, batches=source, hooks=[*stage.hooks, hook])
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        with contextlib.suppress(Over):
            loop.train(
                task, [stage], runtime=runtime, folder=folder, channels_last=channels_last,
                save_seconds=1e9,
            )  # fmt: skip
        steps = [line for line in read_log(Path(folder) / LOG) if line["event"] == "step"]
    if hook.count != hook.warmup + hook.steps:
        raise RuntimeError(f"{hook.count} steps were taken of {hook.warmup + hook.steps}")
    return {
        "seconds": hook.seconds,
        "steps": hook.steps,
        "images": len(next(iter(next(source.source.epoch(0, 0, 1)).values()))),
        "waited": source.waited,
        "memory_gib": device.peak_gib(runtime),
        "loss": steps[-1]["loss"],
        "hook": hook,
    }


def rates(given: Given, found: dict[str, Any], operations: float) -> dict[str, Any]:
    """What is told of measured steps."""
    seconds, steps, images = found["seconds"], found["steps"], found["images"]
    return {
        "images_per_s": images * steps / seconds,
        "step_ms": 1000 * seconds / steps,
        "gflop_per_image": operations / images / 1e9,
        "share_of_peak": given.share(operations * steps / seconds),
        "memory_gib": found["memory_gib"],
        "waits_for_batches": found["waited"] / seconds,
        "loss": found["loss"],
    }
