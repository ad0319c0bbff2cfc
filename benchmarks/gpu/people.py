"""Made-up people to train on: random pixels, label maps and texts at the sizes of real ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.sizes import Sizes
from pipeline.artifacts.atomic import write_json
from pipeline.datasets.index import ImageRow
from pipeline.images.packed import KEYS, PIXELS, PackedImages
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import LIP
from pipeline.labels.writing import MapWriter
from reid_train.data.features import FeatureBatches, FrozenFeatures
from reid_train.models.text_table import TextTable

# Label maps lie in memory once read: a few, repeated, tell what many do.
DRAWN = 64


def rows_of(sizes: Sizes, size: tuple[int, int]) -> list[ImageRow]:
    """Rows of an index, identity by identity."""
    return [
        ImageRow(
            key, key, "train", place // sizes.shots, place % sizes.cameras, None, "", None,
            size[1], size[0], "",
        )
        for place, key in enumerate(keys_of(sizes))
    ]  # fmt: skip


def keys_of(sizes: Sizes) -> list[str]:
    """Names of the images, in order."""
    return [
        f"{person:05d}_{shot}" for person in range(sizes.identities) for shot in range(sizes.shots)
    ]


def packed(folder: Path, sizes: Sizes, size: tuple[int, int]) -> PackedImages:
    """Packed pixels of random colours; made once below ``folder``."""
    return PackedImages.open(_once(folder / f"pixels-{size[0]}x{size[1]}", _pack, sizes, size))


def _pack(folder: Path, sizes: Sizes, size: tuple[int, int]) -> None:
    keys = keys_of(sizes)
    rng = np.random.default_rng(0)
    np.save(folder / PIXELS, rng.integers(0, 256, (len(keys), *size, 3), np.uint8))
    write_json(folder / KEYS, {"keys": keys, "size": list(size), "filter": "bicubic"})


def label_maps(folder: Path, sizes: Sizes) -> LabelMapReader:
    """Label maps 256 x 128 of 20 parts in patches of 16 pixels; made once below ``folder``."""
    return LabelMapReader(_once(folder / "maps", _draw, sizes))


def _draw(folder: Path, sizes: Sizes) -> None:
    rng = np.random.default_rng(1)
    patches = rng.integers(0, len(LIP), (DRAWN, 16, 8)).astype(np.uint8)
    labels = patches.repeat(16, 1).repeat(16, 2)
    confidence = rng.random((DRAWN, 16, 8), np.float32).repeat(16, 1).repeat(16, 2)
    with MapWriter(folder, LIP, {"model": "none: drawn at random"}, (256, 128)) as writer:
        for place, key in enumerate(keys_of(sizes)):
            which = place % DRAWN
            writer.add(
                key, labels[which], confidence[which], source_size=(128, 64), source_digest="00"
            )


def texts(sizes: Sizes, dim: int, parts: str) -> TextTable:
    """Rows of the identities and, unless ``parts`` is none, of their parts."""
    generator = torch.Generator().manual_seed(2)
    names: Sequence[str] = LIP.names if parts != "none" else ()
    shape = {"identity": (sizes.identities, len(names), dim), "fixed": (len(names), dim)}.get(parts)
    return TextTable(
        torch.randn(sizes.identities, dim, generator=generator),
        list(range(sizes.identities)),
        None if shape is None else torch.randn(*shape, generator=generator),
        names,
    )


def features(sizes: Sizes, dim: int, *, parts: bool) -> FrozenFeatures:
    """Frozen features of ``sizes.prompts`` images, of their parts too where ``parts`` says so."""
    generator = torch.Generator().manual_seed(3)
    count, names = sizes.prompts, LIP.names if parts else ()
    return FrozenFeatures(
        projected=torch.randn(count, dim, generator=generator),
        labels=torch.arange(count) % sizes.identities,
        pids=list(range(sizes.identities)),
        parts=torch.randn(count, len(names), dim, generator=generator).half() if parts else None,
        counts=torch.randint(9, (count, len(names)), generator=generator).float()
        if parts
        else None,
        part_names=names,
    )


def feature_batches(sizes: Sizes, frozen: FrozenFeatures, data: Any) -> FeatureBatches:
    """Batches of ``frozen`` as a stage's ``data`` wants them."""
    batch = min(data.batch, sizes.prompts // (sizes.warmup + sizes.steps + 1))
    return FeatureBatches(frozen, batch=batch, parts=data.parts, seed=0)


def _once(folder: Path, make: Callable[..., None], *arguments: Any) -> Path:
    """``folder``, made by ``make`` unless another measurement has; whole or absent."""
    if not folder.is_dir():
        making = folder.with_name(f"{folder.name}.{os.getpid()}")
        making.mkdir(parents=True)
        make(making, *arguments)
        try:
            making.rename(folder)
        except OSError:
            shutil.rmtree(making)
    return folder
