"""Batches for a device from packed pixels, on the cores of its machine."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.gpu import steps
from benchmarks.gpu.given import Given
from reid_train.engine.runtime import Runtime


def of(given: Given, recipe: str) -> dict[str, Any]:
    """Images a second that the source of ``recipe`` gives when nobody computes, and for each second
    of a core; then with their way to the device.
    """
    runtime = Runtime.create(given.device)
    _, stage, channels_last = steps.image_stage(given, recipe, runtime)
    found: dict[str, Any] = {"recipe": recipe}
    for name in ("first", "made", "moved"):  # label maps are read once
        images, wall, cpu = 0, time.perf_counter(), time.process_time()
        epoch = stage.batches.epoch(0, 0, 1)
        for number, batch in enumerate(epoch):
            if number == given.sizes.batches:
                break
            images += len(batch["labels"])
            if name == "moved":
                runtime.move(batch, channels_last=channels_last)
        runtime.synchronise()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if name != "first":
            found |= {f"{name}_images_per_s": images / wall, f"{name}_per_core": images / cpu}
    return found
