"""Worker of step "model": a recipe and the training images of a dataset to a model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pipeline.images import PackedImages
from pipeline.index import read_index
from pipeline.maps import LabelMapReader
from pipeline.store import versions
from reid_train import loop
from reid_train.build import (
    build_stages,
    build_task,
    count_sides,
    fresh,
    model_spec,
    parameters,
    training_set,
)
from reid_train.checkpoint import finished_model, save_model
from reid_train.models.text_table import TextTable
from reid_train.recipe import from_plain
from reid_train.runtime import Runtime

if TYPE_CHECKING:
    from pipeline.steps import Job

log = logging.getLogger(__name__)


def train(job: Job) -> dict[str, Any]:
    """Train, or go on training where a killed run left its state; returns a summary.

    inputs: index, images (packed at the recipe's size), optionally maps and text. params:
    ``recipe`` (plain form, image stages alone), ``seed``, ``pretrained`` (``none``, ``openai``,
    ``imagenet``, or ``file`` for ``job.files``).

    Writes ``model.safetensors`` and ``model.json`` (the model alone: heads belong to training) and
    ``log.jsonl``. ``state.pt`` exists while training and is deleted once the model is written.
    Under torchrun every process calls this and the first one writes.
    """
    if (done := finished_model(job.folder)) is not None:
        return done["training"]
    index = read_index(job.inputs["index"])
    recipe = count_sides(from_plain(job.params["recipe"]), index.rows)
    seed, pretrained = int(job.params["seed"]), job.params.get("pretrained", "none")
    source = str(job.files["pretrained"]) if pretrained == "file" else pretrained
    maps = LabelMapReader(job.inputs["maps"]) if "maps" in job.inputs else None
    images = PackedImages.open(job.inputs["images"])
    data = training_set(recipe, images, index.split("train"), maps)
    texts = TextTable.load(job.inputs["text"], data.pids) if "text" in job.inputs else None
    runtime = Runtime.create(job.device, recipe.precision, join=True)
    task = fresh(
        seed,
        lambda: build_task(
            recipe,
            classes=len(data.pids),
            pretrained=source,
            weights=job.workspace / "weights",
            texts=texts,
        ),
    )
    stages = build_stages(recipe, data, seed=seed, runtime=runtime)
    log.info("%s: %d images of %d identities", recipe.name, len(data), len(data.pids))
    result = loop.train(
        task,
        stages,
        runtime=runtime,
        folder=job.folder,
        seed=seed,
        progress=job.progress,
        channels_last=recipe.channels_last,
    )
    summary = {
        "recipe": recipe.name,
        "dataset": index.dataset,
        "identities": len(data.pids),
        "images": len(data),
        "parameters": parameters(task.model),
        "epochs": result.epochs,
        "steps": result.steps,
        "loss": result.figures["loss"],
        "figures": result.figures,
        "images_per_s": round(result.images_per_s, 2),
        "seconds": round(result.seconds, 3),
    }
    if runtime.main:
        meta = {
            "model": model_spec(recipe),
            "recipe": recipe.plain(),
            "seed": seed,
            "pretrained": str(pretrained),
            "dataset": index.dataset,
            "identity_order": data.pids,
            "preprocessing": recipe.input.model_dump(mode="json"),
            "runtime": runtime.facts(),
            "versions": versions(),
            "training": summary,
            "metrics": result.figures,  # of training, means over the last epoch
        }
        save_model(job.folder, task.model, meta)
        (job.folder / loop.STATE).unlink(missing_ok=True)
    runtime.barrier()
    return summary
