"""Workers of ``classify``: draws of shots, frozen features, learners and their accuracy."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts.atomic import replacing, write_json
from pipeline.artifacts.store import versions
from reid_train.classify.classifier import load_prompt_classifier
from reid_train.classify.recipe import LearnerRecipe, from_plain
from reid_train.classify.task import ClassificationTask, ShotBatches, features_of, images_of
from reid_train.data.class_rows import ClassRows, read_classes
from reid_train.data.shots import Draw, Row, draw_shots, of_classes
from reid_train.data.views import RandomView, read_views
from reid_train.engine import loop
from reid_train.engine.checkpoint import WEIGHTS, finished_model, read_tensors, save_model
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime, derive_seed, on_cpu
from reid_train.engine.schedules import HeldCosine
from reid_train.engine.task import Stage
from reid_train.engine.units import UNITS
from reid_train.models.clip.classifier import ClipClassifier
from reid_train.models.clip.towers import published_clip
from reid_train.recipe.assembly import parameters

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job

log = logging.getLogger(__name__)

SHOTS, FEATURES, ACCURACY = "shots.json", "features.safetensors", "accuracy.json"


def draw(job: Job) -> dict[str, Any]:
    """Worker of step "shots": ``shots.json``, a draw of ``shots`` images per class by ``seed``.

    It does not depend on the half of the classes that is asked for later.
    """
    table = _classes(job)
    drawn = draw_shots(
        table.train, table.val, shots=job.params["shots"], seed=int(job.params["seed"])
    )
    drawn.write(job.folder / SHOTS)
    return {"dataset": table.index.dataset, "train": len(drawn.train), "val": len(drawn.val)}


def features(job: Job) -> dict[str, Any]:
    """Worker of step "class-features": what CLIP's image tower says, N,D float32, of the test
    images, or of the training images of a draw (input ``shots``), in their order.
    """
    from safetensors.torch import save_file

    table = _classes(job)
    rows: Sequence[Row] = table.rows_of("train" if "shots" in job.inputs else "test", "all")
    if "shots" in job.inputs:
        rows = Draw.read(job.inputs["shots"] / SHOTS).train
    runtime = Runtime.create(job.device, "fp32", job.threads)
    model = load_prompt_classifier(
        "zero-shot", clip=_clip(job), class_names=["nothing"], device=str(runtime.device)
    )
    with torch.inference_mode():
        parts = [
            model.image_features(images).float().cpu()
            for images in test_images(job, model, table, rows, job.params["view"], runtime)
        ]
    with replacing(job.folder / FEATURES) as temporary:
        save_file({"features": torch.cat(parts)}, temporary)
    return {"dataset": table.index.dataset, "images": len(rows)}


def train(job: Job) -> dict[str, Any]:
    """Worker of step "learner": train, or go on training; returns a summary.

    inputs: index, shots and, where no image is changed, class-features of the shots. params:
    ``recipe`` (plain, epochs a number), ``classes``, ``part`` (``all`` or ``base``), ``seed``.
    Writes ``model.safetensors`` (the learner under the authors' names) and ``model.json``.
    """
    if (done := finished_model(job.folder)) is not None:
        (job.folder / loop.STATE).unlink(missing_ok=True)  # of one killed before it could
        return done["training"]
    recipe, seed, table = from_plain(job.params["recipe"]), int(job.params["seed"]), _classes(job)
    assert recipe.training is not None and isinstance(recipe.training.epochs, int)
    labels = table.labels(job.params["part"])
    table.rows_of("train", job.params["part"])
    drawn = Draw.read(job.inputs["shots"] / SHOTS)
    rows = of_classes(drawn.train, labels)
    runtime = _runtime(job, recipe)
    model = load_prompt_classifier(
        recipe.learner,
        clip=_clip(job),
        class_names=[table.names[label] for label in labels],
        device=str(runtime.device),
        seed=derive_seed(seed, "init"),
        **recipe.options(),
    )
    runtime.place(model)  # the towers too, which are no part of the task
    task = ClassificationTask(model)
    log.info("%s: %d images of %d classes", recipe.name, len(rows), len(labels))
    stage = _stage(recipe, _read(job, recipe, table, drawn, rows, model), rows, seed)
    result = loop.train(
        task,
        [stage],
        runtime=runtime,
        folder=job.folder,
        seed=seed,
        progress=job.progress,
        watching=job.watching,
        running=job.running,
    )
    summary = {
        "recipe": recipe.name,
        "dataset": table.index.dataset,
        "classes": len(labels),
        "images": len(rows),
        "epochs": result.epochs,
        "steps": result.steps,
        "figures": result.figures,
        "images_per_s": round(result.images_per_s, 2),
        "seconds": round(result.seconds, 3),
        **counts(model),
    }
    if runtime.main:
        meta = {
            "recipe": recipe.plain(),
            "seed": seed,
            "classes": model.class_names,
            "pretrained": job.params["pretrained"],
            "runtime": runtime.facts(),
            "versions": versions(),
            "training": summary,
        }
        save_model(job.folder, task, meta)
        (job.folder / loop.STATE).unlink(missing_ok=True)
    runtime.barrier()
    return summary


def evaluate(job: Job) -> dict[str, Any]:
    """Worker of step "accuracy": ``accuracy.json``, the share of test images whose most similar
    class is their own, over all and class by class. Computed in float32.

    inputs: index; ``learner`` (or ``job.files["learner"]``) unless zero-shot; class-features of the
    test images where the image tower is CLIP's own. Only classes of ``part`` compete.
    """
    recipe, table = from_plain(job.params["recipe"]), _classes(job)
    labels = table.labels(job.params["part"])
    kept = np.flatnonzero([row.label in labels for row in table.test])
    rows = of_classes(table.rows_of("test", job.params["part"]), labels)
    runtime = Runtime.create(job.device, "fp32", job.threads)
    names = [table.names[label] for label in labels]
    model = classifier(job, recipe, names, runtime)
    found: list[Tensor] = []
    with torch.inference_mode():
        if "features" in job.inputs:
            given = read_tensors(job.inputs["features"] / FEATURES, {"features": 2})["features"][
                kept
            ]
            for part in given.split(recipe.test_batch):
                found.append(model.compare(part.to(runtime.device)).argmax(1).cpu())
        else:
            for images in test_images(job, model, table, rows, recipe.view.test, runtime):
                found.append(model(images).argmax(1).cpu())
    truth = np.array([row.label for row in rows])
    right = torch.cat(found).numpy() == truth
    per_class = [
        {
            "name": name,
            "images": int((truth == label).sum()),
            "correct": int(right[truth == label].sum()),
        }
        for label, name in enumerate(names)
    ]
    result = {
        "dataset": table.index.dataset,
        "part": job.params["part"],
        "classes": len(names),
        "images": len(rows),
        "correct": int(right.sum()),
        "accuracy": float(right.mean()),
        **counts(model),
    }
    write_json(job.folder / ACCURACY, {**result, "per_class": per_class, "versions": versions()})
    return result


def classifier(
    job: Job, recipe: LearnerRecipe, names: Sequence[str], runtime: Runtime
) -> ClipClassifier:
    """The classifier of an evaluation: the input ``learner``, a file of weights, or zero-shot."""
    options: dict[str, Any] = {}
    learner = None
    if recipe.learner == "zero-shot":
        options["template"] = list(job.params["templates"])
    else:
        folder = job.inputs.get("learner")
        learner = job.files["learner"] if folder is None else folder / WEIGHTS
        options["template"] = recipe.template
        if recipe.learner == "coop":
            options["position"] = recipe.position
    return load_prompt_classifier(
        recipe.learner,
        clip=_clip(job),
        learner=learner,
        class_names=names,
        device=str(runtime.device),
        **options,
    )


def counts(model: ClipClassifier) -> dict[str, Any]:
    """How many numbers the learner has, and their share of CLIP's without its token table, as the
    published tables count them.
    """
    table = model.text_encoder.token_embedding.weight.numel()
    towers = parameters(model.image_encoder) + parameters(model.text_encoder) + 1
    learnt = 0 if model.prompt_learner is None else parameters(model.prompt_learner)
    return {"parameters": learnt, "share": learnt / (towers - table)}


def _classes(job: Job) -> ClassRows:
    return read_classes(job.inputs["index"], **job.params["classes"])


def _clip(job: Job) -> Any:
    if job.params["pretrained"] == "file":
        return job.files["pretrained"]
    return published_clip(job.params["pretrained"], job.workspace / "weights")


def _runtime(job: Job, recipe: LearnerRecipe) -> Runtime:
    # Half precision is a matter of GPUs: CPUs compute in float32, and the model's file says so.
    runtime = Runtime.create(job.device, "fp32", job.threads, join=True)
    if on_cpu(runtime.device) and recipe.precision != "fp64":
        if recipe.precision in UNITS:
            log.warning("precision %s is for GPUs: computing in fp32", recipe.precision)
        return runtime
    return Runtime.create(job.device, recipe.precision, job.threads, join=True)


def test_images(
    job: Job,
    model: ClipClassifier,
    table: ClassRows,
    rows: Sequence[Row],
    view: str,
    runtime: Runtime,
) -> Iterator[Tensor]:
    """Test views of the images of ``rows``, 64 at a time, on the device in 0..1."""
    files = table.files(rows)
    for start in range(0, len(files), 64):
        part = files[start : start + 64]
        pixels = read_views(
            part, model.input_size, view, decoding=table.index.decoding, workers=job.workers
        )
        yield runtime.move({"images": pixels})["images"].float() / 255


def _read(
    job: Job,
    recipe: LearnerRecipe,
    table: ClassRows,
    drawn: Draw,
    rows: Sequence[Row],
    model: ClipClassifier,
) -> tuple[str, Any]:
    """What a batch holds, and how it is read."""
    if "features" not in job.inputs:
        view = RandomView(recipe.view.crop_area, recipe.view.flip, recipe.view.test)
        decoding = table.index.decoding
        read = images_of(table.files(rows), model.input_size, view, job.workers, decoding)
        return "images", read
    place = {row.path: number for number, row in enumerate(drawn.train)}
    given = read_tensors(job.inputs["features"] / FEATURES, {"features": 2})["features"]
    return "features", features_of(given[[place[row.path] for row in rows]])


def _stage(
    recipe: LearnerRecipe, reading: tuple[str, Any], rows: Sequence[Row], seed: int
) -> Stage:
    training = recipe.training
    assert training is not None and isinstance(training.epochs, int)
    name, read = reading
    labels = [row.label for row in rows]
    optimiser = Optimiser(
        **{f.name: getattr(training.optimiser, f.name) for f in fields(Optimiser)}
    )
    held = training.warmup_lr / training.optimiser.lr
    return Stage(
        "prompts",
        training.epochs,
        ShotBatches(read, labels, name=name, batch=training.batch, seed=derive_seed(seed, "data")),
        optimiser,
        HeldCosine(training.warmup_epochs, held),
    )
