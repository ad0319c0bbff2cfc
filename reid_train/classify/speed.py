"""How many images per second a classifier names, over batch sizes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from pipeline.terminal.tables import format_table
from reid_train.classify.classifier import load_prompt_classifier
from reid_train.classify.recipe import LearnerRecipe
from reid_train.classify.steps import Classes, Clip
from reid_train.data.class_rows import read_classes
from reid_train.engine.runtime import Runtime
from reid_train.models.clip.towers import published_clip

BATCHES = (1, 4, 16, 64)
SECONDS = 1.0


def measure(
    recipe: LearnerRecipe,
    clip: Clip,
    classes: Classes,
    folder: Path,
    *,
    weights: Path,
    device: str,
    batches: tuple[int, ...] = BATCHES,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Median images per second of forward passes on noise, with the class names of a dataset, in
    float32, by batch size; an untrained learner, whose speed is a trained one's.

    Texts that no image changes are computed before the clock starts, as they are in use; CoCoOp has
    one text per image and class, so its rate does not grow with the batch.
    """
    runtime = Runtime.create(device, "fp32")
    source: Any = clip.files.get("pretrained")
    if source is None:
        source = published_clip(clip.params["pretrained"], weights)
    names = read_classes(folder, **classes.params).names
    model = load_prompt_classifier(
        recipe.learner,
        clip=source,
        class_names=names,
        device=str(runtime.device),
        **recipe.options(),
    )
    generator = torch.Generator().manual_seed(0)
    rates: dict[str, float] = {}
    with torch.inference_mode():
        for size in batches:
            noise = torch.rand(size, 3, *model.input_size, generator=generator)
            images = runtime.move({"images": noise})["images"]
            model(images)
            taken: list[float] = []
            while len(taken) < 3 or (sum(taken) < seconds and len(taken) < 1000):
                runtime.synchronise()
                started = time.perf_counter()
                model(images)
                runtime.synchronise()
                taken.append(time.perf_counter() - started)
            rates[str(size)] = size / sorted(taken)[len(taken) // 2]
    return {
        "recipe": recipe.name,
        "dataset": classes.dataset,
        "classes": len(names),
        "device": runtime.facts()["device"],
        "images_per_s": rates,
    }


def speed_table(rows: list[dict[str, Any]]) -> str:
    """Images per second; columns are batch sizes."""
    sizes = list(rows[0]["images_per_s"])
    about = ["recipe", "dataset", "classes", "device"]
    shown = [
        {
            **{name: row[name] for name in about},
            **{f"batch {size}": row["images_per_s"][size] for size in sizes},
        }
        for row in rows
    ]
    return format_table(shown, [*about, *(f"batch {size}" for size in sizes)])
