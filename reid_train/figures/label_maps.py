"""Label maps laid over their images in the label set's colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.labels import LabelSet


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    label_set: LabelSet,
    *,
    confidence: np.ndarray | None = None,
    opacity: float = 0.6,
) -> np.ndarray:
    """The image tinted by its label map: uint8 (H, W, 3) RGB at the map's size.

    image: uint8 (h, w, 3) RGB of any size. label: uint8 (H, W), classes of ``label_set``; class 0
    stays untinted. confidence: float (H, W) in 0..1 or None; unsure pixels are tinted less.
    """
    from PIL import Image

    height, width = label.shape
    base = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    strength = opacity * (label > 0).astype(np.float32)
    if confidence is not None:
        strength = strength * confidence
    tint = label_set.colours[label].astype(np.float32)
    mixed = np.asarray(base) * (1 - strength[..., None]) + tint * strength[..., None]
    return np.round(mixed).astype(np.uint8)


@dataclass(frozen=True)
class LegendEntry:
    """A class as the legend shows it; ``share``: of all pixels of the maps, 0..1."""

    name: str
    colour: str
    share: float


def legend(labels: Sequence[np.ndarray], label_set: LabelSet) -> list[LegendEntry]:
    """The classes that occur in uint8 maps (H, W), most frequent first, background left out."""
    counts = np.zeros(len(label_set), np.int64)
    for label in labels:
        counts += np.bincount(label.ravel(), minlength=len(label_set))
    shares = counts / max(1, counts.sum())
    order = [int(number) for number in np.argsort(-counts, kind="stable") if number]
    return [
        LegendEntry(
            label_set.names[number],
            "#{:02x}{:02x}{:02x}".format(*label_set.palette[number]),
            float(shares[number]),
        )
        for number in order
        if counts[number]
    ]
