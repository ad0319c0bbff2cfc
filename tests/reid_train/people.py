"""A few striped "people" packed on disk, with exact label maps; nothing is drawn from real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.artifacts.atomic import write_json
from pipeline.datasets.index import ImageRow
from pipeline.images.packed import KEYS, PIXELS, PackedImages
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import LIP
from pipeline.labels.writing import MapWriter

HAIR, CLOTHES, LEFT_LEG, RIGHT_LEG = 2, 5, 16, 17


def people(
    folder: Path, *, ids: int = 6, images: int = 5, size: tuple[int, int] = (32, 16)
) -> tuple[PackedImages, list[ImageRow], LabelMapReader]:
    """``ids`` identities (pids 10, 20, ...) with ``images`` images each, two cameras in turn.

    Identity decides the colour of clothes, the two legs have different colours and labels.
    """
    height, width = size
    count = ids * images
    rng = np.random.default_rng(5)
    colours = rng.integers(40, 216, (ids, 3))
    pixels = np.zeros((count, height, width, 3), np.uint8)
    labels = np.zeros((count, height, width), np.uint8)
    left, right = slice(width // 4, width // 2), slice(width // 2, 3 * width // 4)
    middle, upper, body, lower = (
        slice(width // 4, 3 * width // 4),
        slice(0, height // 4),
        slice(height // 4, height // 2),
        slice(height // 2, height),
    )
    for row in range(count):
        labels[row, upper, middle] = HAIR
        labels[row, body, middle] = CLOTHES
        labels[row, lower, left] = RIGHT_LEG  # the person faces us: their right is our left
        labels[row, lower, right] = LEFT_LEG
        paint = {HAIR: (60, 40, 20), CLOTHES: colours[row // images]}
        paint |= {RIGHT_LEG: (200, 30, 30), LEFT_LEG: (30, 30, 200)}
        for label, colour in paint.items():
            pixels[row][labels[row] == label] = colour
        noise = rng.integers(-20, 21, (height, width, 3))
        pixels[row] = np.clip(pixels[row].astype(int) + noise, 0, 255)
    rows = [
        ImageRow(
            key=f"{row:03d}.png", path=f"{row:03d}.png", split="train",
            pid=10 * (row // images + 1), camid=row % 2, view=None, sequence="", frame=None,
            width=width, height=height, digest="00" * 32,
        )
        for row in range(count)
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / KEYS).exists():
        np.save(folder / PIXELS, pixels)
        with MapWriter(folder, LIP, size=size) as writer:
            for row, label in zip(rows, labels, strict=True):
                sure = np.where(label > 0, 0.8, 0.4)
                writer.add(row.key, label, sure, source_size=size, source_digest=row.digest)
        about = {"keys": [row.key for row in rows], "size": list(size), "filter": "bilinear"}
        write_json(folder / KEYS, about)
    return PackedImages.open(folder), rows, LabelMapReader(folder)
