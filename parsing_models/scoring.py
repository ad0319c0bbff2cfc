"""How good label maps are: IoU from one confusion matrix over a whole set of images."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.errors import ReidpipeError
from pipeline.index import Index
from pipeline.labels import PARTS, LabelSet
from pipeline.maps import LabelMapReader

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


def score_maps(folder: Path, index: Index) -> dict:
    """Score cached maps against the ground truth an index names in its column ``label_path``.

    A map is taken to the truth's own size by nearest neighbour. Truth of another label set is not
    guessed: it must be in the maps' set. Returns ``Confusion.scores`` plus ``images`` and
    ``protocol``. Raises ``ReidpipeError`` when no row has ground truth or a map is missing.
    """
    reader = LabelMapReader(folder)
    confusion = Confusion(reader.label_set)
    rows = [row for row in index.rows if row.extra.get("label_path")]
    if not rows:
        raise ReidpipeError(
            f"found no ground truth in dataset '{index.dataset}'; expected rows with a label_path; "
            "type reidpipe parse mannequins --score"
        )
    for row in rows:
        truth = read_labels(index.root / row.extra["label_path"], reader.label_set)
        confusion.add(truth, _resized(reader[row.key][0], truth.shape))
    protocol = (
        f"{index.dataset}, {len(rows)} images with ground truth, maps {reader.size[0]}x"
        f"{reader.size[1]} at the truth's size; IoU per class from one confusion matrix over all "
        "pixels, mean over the classes that occur"
    )
    return {**confusion.scores(), "images": len(rows), "protocol": protocol}


def compare_maps(one: Path, other: Path) -> dict:
    """How far two parsers agree on the images both have maps of.

    Maps of different label sets are compared in the five parts both know. ``scores`` takes the
    first as the truth; swapping them changes no IoU.
    """
    first, second = LabelMapReader(one), LabelMapReader(other)
    common = first.label_set if first.label_set.names == second.label_set.names else PARTS
    tables = [reader.label_set.map_to(common) for reader in (first, second)]
    confusion = Confusion(common)
    shared = [key for key in first if key in second]
    for key in shared:
        labels = tables[0][first[key][0]]
        confusion.add(labels, tables[1][_resized(second[key][0], labels.shape)])
    return {**confusion.scores(), "images": len(shared), "label_set": common.name}


def _resized(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if labels.shape == shape:
        return labels
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for old, new in zip(labels.shape, shape, strict=True)
    )
    return labels[rows][:, columns]


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
