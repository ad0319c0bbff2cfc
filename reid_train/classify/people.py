"""Worker of step "retrieval": prompt learners on people they have never seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts.atomic import write_json
from pipeline.artifacts.store import versions
from reid_train.classify.recipe import from_plain
from reid_train.classify.work import FEATURES, classifier, counts, test_images
from reid_train.data.class_rows import read_classes
from reid_train.data.shots import of_classes
from reid_train.engine.checkpoint import read_tensors
from reid_train.engine.runtime import Runtime
from reid_train.evaluation import Embeddings, RetrievalMetrics, evaluate, evaluate_distances

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job

RETRIEVAL = "retrieval.json"
RANKS = (1, 5, 10)


def retrieve(job: Job) -> dict[str, Any]:
    """``retrieval.json``: the test people ranked by words and by pictures.

    text: each class's prompt against all test images, by the classifier's logits; right is an image
    of that class. image: query images against the gallery by cosine of the image features, same
    identity and camera left out. CoOp and CoCoOp do not touch the image tower: their ``image`` is
    CLIP's own.
    """
    recipe = from_plain(job.params["recipe"])
    table = read_classes(job.inputs["index"], **job.params["classes"])
    labels = table.labels("tested")
    rows = of_classes(table.rows_of("test", "tested"), labels)
    runtime = Runtime.create(job.device, "fp32", job.threads)
    model = classifier(job, recipe, [table.names[label] for label in labels], runtime)
    scores: list[Tensor] = []
    with torch.inference_mode():
        if "features" in job.inputs:
            found = read_tensors(job.inputs["features"] / FEATURES, {"features": 2})["features"]
        else:
            batches = test_images(job, model, table, rows, recipe.view.test, runtime)
            found = torch.cat([model.image_features(images).cpu() for images in batches])
        for part in found.split(recipe.test_batch):
            scores.append(model.compare(part.to(runtime.device)).cpu())
    by_key = {row.key: row for row in table.index.rows}
    people = [by_key[row.path] for row in rows]
    truth = np.array([row.label for row in rows])
    none = np.zeros(len(labels), np.int64), np.zeros(len(rows), np.int64)
    text = evaluate_distances(
        -torch.cat(scores).T.numpy(), np.arange(len(labels)), truth, *none, exclude="none"
    )
    sides = []
    for split in ("query", "gallery"):
        chosen = [place for place, row in enumerate(people) if row.split == split]
        of = [people[place] for place in chosen]
        pids, camids = [row.pid for row in of], [row.camid for row in of]
        sides.append(Embeddings(found[chosen], np.array(pids), np.array(camids)))
    result = {
        "dataset": table.index.dataset,
        "classes": len(labels),
        "images": len(rows),
        "text": _figures(text),
        "image": _figures(evaluate(*sides)),
        **counts(model),
    }
    write_json(job.folder / RETRIEVAL, {**result, "versions": versions()})
    return result


def _figures(metrics: RetrievalMetrics) -> dict[str, Any]:
    ranks = {str(rank): float(metrics.cmc[rank - 1]) for rank in RANKS}
    return {"mAP": float(metrics.mAP), "cmc": ranks, "queries": int(metrics.valid.sum())}
