"""Features of a gallery on the device; evaluation and re-ranking on the cores of its machine, at
the size of MSMT17.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks.evaluation import people
from benchmarks.gpu import device, steps
from benchmarks.gpu.given import Given
from reid_train.engine.runtime import Runtime
from reid_train.evaluation import Embeddings, evaluate, rerank_distances
from reid_train.evaluation.embeddings import embed

NOISE = 2.5


def embedding(given: Given, recipe: str, precision: str) -> dict[str, Any]:
    """Images a second through the model of ``recipe``, as evaluation takes its features (which is
    in fp32).
    """
    runtime = Runtime.create(given.device, precision)
    task, _, _ = steps.image_stage(given, recipe, runtime)
    model = task.model.to(runtime.device).eval()
    pixels = np.random.default_rng(0).integers(
        0, 256, (given.sizes.embedded, *model.input_size, 3), np.uint8
    )
    rows = np.arange(len(pixels))
    device.forget_peak(runtime)
    embed(model, pixels, rows[:128], runtime=runtime)
    runtime.synchronise()
    started = time.perf_counter()
    found = embed(model, pixels, rows, runtime=runtime)
    seconds = time.perf_counter() - started
    if not np.isfinite(found).all():
        raise RuntimeError("features are not finite")
    return {
        "recipe": recipe, "precision": precision, "images_per_s": len(rows) / seconds,
        "memory_gib": device.peak_gib(runtime),
    }  # fmt: skip


def evaluation(given: Given) -> dict[str, Any]:
    """Seconds of the evaluation from features, all queries against the whole gallery."""
    query, gallery = sides(given)
    started, cpu = time.perf_counter(), time.process_time()
    metrics = evaluate(query, gallery, normalise=False)
    return {
        **told(query, gallery), "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu, "threads": torch.get_num_threads(),
        "mAP": metrics.mAP,
    }  # fmt: skip


def reranking(given: Given) -> dict[str, Any]:
    """Seconds of k-reciprocal re-ranking of some of the queries with the whole gallery: the
    neighbours of all images are looked for either way.
    """
    query, gallery = sides(given, given.sizes.reranked)
    started, cpu = time.perf_counter(), time.process_time()
    found = rerank_distances(query, gallery, normalise=False)
    seconds = time.perf_counter() - started
    return {
        **told(query, gallery), "seconds": seconds, "cpu_seconds": time.process_time() - cpu,
        "threads": torch.get_num_threads(), "finite": bool(np.isfinite(found).all()),
    }  # fmt: skip


def sides(given: Given, most: int | None = None) -> tuple[Embeddings, Embeddings]:
    """Queries, of which there are ``most``, and a gallery."""
    queries, gallery, dims = given.sizes.retrieval
    asked = queries if most is None else min(most, queries)
    return people(np.random.default_rng(0), (asked, gallery), dims, NOISE)


def told(query: Embeddings, gallery: Embeddings) -> dict[str, Any]:
    """The size of the problem."""
    return {"queries": len(query), "gallery": len(gallery), "dims": query.features.shape[1]}
