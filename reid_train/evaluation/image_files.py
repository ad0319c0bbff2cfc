"""Features of image files that belong to no dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.datasets.layouts.rows import walk_images
from pipeline.images.originals import DamagedImage
from pipeline.images.pixels import open_image, resize
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.compared import compared
from reid_train.evaluation.embeddings import embed

if TYPE_CHECKING:
    from reid_train.engine.runtime import Runtime
    from reid_train.models.deployable import ReidModel

BATCH = 64


def images_below(folder: Path) -> list[Path]:
    """Image files at any depth, sorted. Raises ReidpipeError when there is none."""
    if not folder.is_dir():
        raise ReidpipeError(f"found no folder {folder}; expected images; type the path of a folder")
    paths = list(walk_images(folder))
    if not paths:
        raise ReidpipeError(f"found no image below {folder}; expected at least one; type another")
    return paths


def damaged_files(paths: Sequence[Path]) -> dict[str, str]:
    """path -> damage of those that cannot be read as images."""
    damaged: dict[str, str] = {}
    for path in paths:
        try:
            open_image(path)
        except DamagedImage as error:
            damaged[str(path)] = str(error)
    return damaged


def embed_files(
    model: ReidModel,
    paths: Sequence[Path],
    *,
    filter: str,
    runtime: Runtime,
    flip: bool = False,
    feature: str = "embedding",
    progress: bool = False,
) -> tuple[np.ndarray, list[Path], dict[str, str]]:
    """Features float32 (N, D), not normalised; the N paths read; path -> damage of the others.
    ``feature`` is the name of one of ``model.features``.

    Images are resized to ``model.input_size`` with PIL's ``filter``, as packing does; memory holds
    one batch of pixels. Raises the first DamagedImage when no image can be read.
    """
    from tqdm import tqdm

    encode, joined = compared(model, feature)
    kept: list[Path] = []
    damaged: dict[str, str] = {}
    blocks: list[np.ndarray] = []
    with tqdm(total=len(paths), desc="embed", unit="image", disable=not progress) as bar:
        for start in range(0, len(paths), BATCH):
            part = paths[start : start + BATCH]
            pixels = []
            for path in part:
                try:
                    pixels.append(resize(open_image(path), model.input_size, filter))
                    kept.append(path)
                except DamagedImage as error:
                    damaged[str(path)] = str(error)
            if pixels:
                rows = range(len(pixels))
                found = embed(
                    encode, np.stack(pixels), rows, runtime=runtime, flip=flip, joined=joined
                )
                blocks.append(found)
            bar.update(len(part))
    if not blocks:
        raise DamagedImage(next(iter(damaged.values())))
    return np.concatenate(blocks), kept, damaged
