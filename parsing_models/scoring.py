"""How good label maps are: IoU from one confusion matrix over a whole set of images."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.errors import ReidpipeError
from pipeline.labels import LabelSet

IGNORE = 255


@dataclass
class Confusion:
    """Counts of pixels, int64 (C, C): rows are the truth, columns the prediction."""

    label_set: LabelSet
    counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(self.label_set),) * 2, dtype=np.int64)

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Count two integer maps of one shape; pixels whose truth is 255 are left out.

        Raises ``ValueError`` for other shapes or labels outside the set.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth is {truth.shape}, prediction {predicted.shape}")
        classes = len(self.label_set)
        counted = truth != IGNORE
        pair = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
        if any(part.size and (part.min() < 0 or part.max() >= classes) for part in pair):
            raise ValueError(f"labels outside 0..{classes - 1}")
        cells = np.bincount(pair[0] * classes + pair[1], minlength=classes**2)
        self.counts += cells.reshape(classes, classes)

    def iou(self) -> np.ndarray:
        """IoU per class, float64 (C,): hits / (truth + prediction - hits); NaN where neither is."""
        hits = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        return np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)

    def scores(self) -> dict:
        """JSON-plain: mean IoU over the classes that occur in the truth or the prediction, pixel
        accuracy, IoU by class name (None where a class does not occur), number of pixels."""
        iou, pixels = self.iou(), int(self.counts.sum())
        named = zip(self.label_set.names, iou, strict=True)
        return {
            "mIoU": float(np.nanmean(iou)) if pixels else None,
            "pixel_accuracy": float(np.trace(self.counts) / pixels) if pixels else None,
            "iou": {name: None if np.isnan(value) else float(value) for name, value in named},
            "pixels": pixels,
        }


def read_labels(path: Path, label_set: LabelSet) -> np.ndarray:
    """A ground-truth map: u1 (H, W) from a lossless 8-bit grey or palette image.

    255 (not annotated) is let through. Raises ``ReidpipeError`` for a lossy file, whatever its
    suffix (JPEG turns labels into other labels), for colours, and for labels outside the set.
    """
    from PIL import Image

    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        lossy = image.format in {"JPEG", "MPO", "JPEG2000"} or (
            image.format == "WEBP" and b"VP8 " in data[:32]
        )
        if lossy or image.mode not in {"L", "P"}:
            raise ReidpipeError(
                f"found label map {path} as {image.format} in mode {image.mode}; expected a "
                "lossless 8-bit image of class numbers; export it again as PNG"
            )
        labels = np.array(image)
    found = int(labels[labels != IGNORE].max(initial=0))
    if found >= len(label_set):
        raise ReidpipeError(
            f"found label {found} in {path}; expected 0..{len(label_set) - 1} of label set "
            f"'{label_set.name}'; name the set the file was made with"
        )
    return labels
