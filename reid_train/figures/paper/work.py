"""Workers of the steps "activations" and "cells": what a network must be asked for a figure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts import atomic
from pipeline.images.pixels import resize
from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.activation_maps import activation_map
from reid_train.figures.comparison import (
    cells_protocol,
    drawn_cells,
    gallery_classes,
    query_activations,
    shown_rows,
    spread_queries,
    test_cells,
)
from reid_train.figures.embedding_map import layout
from reid_train.figures.page.views import RunView
from reid_train.figures.paper.activations import ABOUT, MAPS
from reid_train.figures.paper.parts import ABOUT as CELLS_ABOUT
from reid_train.figures.paper.parts import POINTS
from reid_train.figures.part_features import measure, part_groups
from reid_train.figures.work import encoder_of, sides_of

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.artifacts.steps import Job
    from pipeline.datasets.index import ImageRow
    from reid_train.models.deployable import ReidModel


def activations(job: Job) -> dict[str, Any]:
    """Where a model looks on some queries: ``activations.npz`` with keys (N,) and maps float32
    (N, h, w), ``activations.json`` with the ``method``: "gradient" (``class_activation``), or
    "occlusion" (``activation_map``) for trunks without a map of the whole image.

    params: queries, keys or how many to choose. inputs: evaluation, model, index.
    """
    view, network = _view(job)
    wanted = job.params["queries"]
    if isinstance(wanted, int):
        rows = spread_queries([view], view.pictures, wanted)
    else:
        rows = [_query(view, key) for key in wanted]
    found, method = query_activations(view, network, rows), "gradient"
    if found is None:
        found, method = _occluded(view, network, rows), "occlusion"
    _write(job.folder / MAPS, keys=np.array([row.key for row in rows]), maps=np.array(found))
    about = {"method": method, "queries": [row.key for row in rows]}
    atomic.write_json(job.folder / ABOUT, about)
    return about


def cells(job: Job) -> dict[str, Any]:
    """Features of cells by body part: ``cells.npz`` with points float32 (M, 2) by t-SNE, the group
    of parts and the identity of each (M,); ``cells.json`` with the silhouette and the protocol, or
    ``why`` there is nothing to draw.

    inputs: evaluation, model, index, maps (label maps of the index).
    """
    from pipeline.labels.maps import LabelMapReader

    view, network = _view(job)
    reader = LabelMapReader(job.inputs["maps"])
    rows = shown_rows(view, view.pictures, reader)
    found = test_cells(network, rows, view.pictures, reader) if rows else None
    groups = part_groups(reader.label_set)
    drawn = None if found is None else drawn_cells(found["final"], groups)
    if found is None or drawn is None:
        about: dict[str, Any] = {"why": "too few images, parts or cells, or no map of the image"}
    else:
        about = {
            "silhouette": measure(found, reader.label_set)["final"]["silhouette"],
            "protocol": cells_protocol(rows, reader, job.inputs["index"].name),
        }
        points = layout(drawn.features).astype(np.float32)
        _write(job.folder / POINTS, points=points, groups=groups[drawn.parts], pids=drawn.pids)
    atomic.write_json(job.folder / CELLS_ABOUT, about)
    return about


def _view(job: Job) -> tuple[RunView, ReidModel]:
    from reid_train import load_model

    model = job.inputs["model"]
    view = RunView("", job.inputs["evaluation"], job.inputs["index"], model)
    network = load_model(model, device=job.device)
    return replace(view, sides=sides_of(view, network)), network


def _query(view: RunView, key: str) -> ImageRow:
    """Raises ReidpipeError for an image that is no query, or of nobody in the gallery."""
    ranking, rows = view.ranking, view.pictures.rows
    gallery = {rows[str(other)].pid for other in ranking.gallery_keys}
    if key not in ranking.query_keys.tolist() or rows[key].pid not in gallery:
        raise ReidpipeError(
            f"found --query {key}, which is no query with a right match in the gallery; expected "
            f"one; type --query {ranking.query_keys[ranking.valid][0]}"
        )
    return rows[key]


def _occluded(view: RunView, network: ReidModel, rows: list[ImageRow]) -> list[np.ndarray]:
    import torch

    device = next(network.parameters()).device
    classes, maps = gallery_classes(view), []
    for row in rows:
        image = resize(view.pictures[row.key], network.input_size, "bilinear")
        tensor = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        target = torch.from_numpy(classes[row.pid or 0]).to(device)
        maps.append(activation_map(encoder_of(view, network, row), tensor, target))
    return maps


def _write(path: Path, **columns: Any) -> None:
    with atomic.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **columns)
