"""A look at cached label maps: overlays of a few images, and a sheet of them with a legend."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.datasets.index import SPLITS, ImageRow, Index, read_index
from pipeline.images.pixels import decode
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.pictures import (
    Tile,
    contact_sheet,
    fitted,
    legend,
    overlay,
    save_picture,
    shown_size,
)

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job

SHEET, OVERLAYS = "sheet.png", "overlays"
HEIGHT, OVERLAY_HEIGHT = 192, 384
IMAGES = 20


def preview(job: Job) -> dict[str, Any]:
    """Worker of the step "preview": ``sheet.png`` and a picture per image in ``overlays/``.

    inputs: ``maps``, ``index``. params: ``name``, what to call the parser; ``images``, how many.
    The summary: ``keys`` of the images and ``overlays``, their files.
    """
    index, reader = read_index(job.inputs["index"]), LabelMapReader(job.inputs["maps"])
    rows = spread_over_splits(
        [row for row in index.rows if row.key in reader], job.params["images"]
    )
    names = []
    for number, row in enumerate(rows):
        names.append(f"{OVERLAYS}/{number:02d}-{PurePosixPath(row.path).stem}.png")
        _, picture = _drawn(index, reader, row, OVERLAY_HEIGHT)
        save_picture(job.folder / names[-1], picture)
    save_picture(job.folder / SHEET, draw_preview(index, reader, rows, job.params["name"]))
    return {"keys": [row.key for row in rows], "overlays": names}


def spread_over_splits(rows: list[ImageRow], count: int) -> list[ImageRow]:
    """At most ``count`` rows: as many of each split as can be, evenly spaced in the table's order.

    Deterministic; a file that serves two splits comes once.
    """
    seen: set[str] = set()
    groups: dict[str, list[ImageRow]] = {split: [] for split in SPLITS}
    for row in rows:
        if row.path not in seen:
            groups[row.split].append(row)
            seen.add(row.path)
    left = {split: group for split, group in groups.items() if group}
    taken = dict.fromkeys(left, 0)
    for _ in range(min(count, len(seen))):
        # The split that has least so far; the first of them in the usual order.
        split = min((s for s in left if taken[s] < len(left[s])), key=lambda s: taken[s])
        taken[split] += 1
    return [
        group[int((place + 0.5) * len(group) / taken[split])]
        for split, group in left.items()
        for place in range(taken[split])
    ]


def draw_preview(
    index: Index, reader: LabelMapReader, rows: list[ImageRow], name: str
) -> np.ndarray:
    """The sheet: each image beside its overlay; uint8 (H, W, 3) RGB."""
    tiles = []
    for row in rows:
        image, picture = _drawn(index, reader, row, HEIGHT)
        tiles.append(Tile([image, picture], f"{row.split}  {PurePosixPath(row.path).name}"))
    labels = [reader[row.key][0] for row in rows]
    return contact_sheet(
        tiles,
        legend(labels, reader.label_set),
        title=f"{name} on {index.dataset}",
        subtitle=f"{len(rows)} of {len(reader)} images; labels of {reader.label_set.name}; "
        "unsure pixels are tinted less; shares are of the pixels shown, the rest is background",
    )


def _drawn(
    index: Index, reader: LabelMapReader, row: ImageRow, height: int
) -> tuple[np.ndarray, np.ndarray]:
    image = decode(index.original(row), decoding=index.decoding)
    size = shown_size(image, height)
    label, sure = reader[row.key]
    steps = np.round(sure * 255).astype(np.uint8)
    confidence = fitted(steps, size, exact=True).astype(np.float32) / 255
    labels = fitted(label, size, exact=True)
    picture = overlay(image, labels, reader.label_set, confidence=confidence, opacity=0.65)
    return fitted(image, size), picture
