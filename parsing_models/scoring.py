"""How good label maps are: IoU from one confusion matrix over a whole set of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts.atomic import write_json
from pipeline.datasets.annotations import annotation
from pipeline.datasets.index import ImageRow, Index, read_index
from pipeline.images.pixels import known_formats
from pipeline.labels.garments import TRUTHS, common_ground
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import IGNORE, LabelSet, nearest_resized
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    import PIL.Image

    from pipeline.artifacts.steps import Job

SCORES = "scores.json"
TEST_SIDE = ("query", "gallery")


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


def score(job: Job) -> dict[str, Any]:
    """Worker of the step "scores": ``score_maps`` of the inputs ``maps`` and ``index``.

    params: ``truth``, the name of the label set of the ground truth, or None where the dataset
    does not say. Writes ``scores.json``; its content is the summary too.
    """
    scores = score_maps(job.inputs["maps"], read_index(job.inputs["index"]), job.params["truth"])
    write_json(job.folder / SCORES, scores)
    return scores


def score_maps(folder: Path, index: Index, truth: str | None = None) -> dict[str, Any]:
    """Score cached maps against the ground truth an index names in its column ``label_path``.

    Rows: those of the test side, ``query`` and ``gallery``; where none of them has ground truth,
    ``val``; else ``train``. An image in two splits counts once. A map is taken to the truth's own
    size, which is the image's, by nearest neighbour. truth: name of the truth's label set; None:
    that of the maps. Where it is another than the maps', both are scored in ``common_ground``;
    pixels of truth classes that say nothing there are left out.

    Returns ``Confusion.scores`` plus ``images``, ``splits`` (rows counted, by split),
    ``without_map``, ``label_set``, ``truth_set``, ``maps_set``, ``share`` (of the truth's pixels,
    by class), ``protocol`` and, where classes were left out, ``not_scored`` (share of all annotated
    pixels, by class of the truth). Raises ``ReidpipeError`` when no row has ground truth, when none
    of those has a map, and as ``read_labels`` and ``check_sizes``.
    """
    reader = LabelMapReader(folder)
    given = TRUTHS[truth] if truth else reader.label_set
    common, of_truth, of_maps = common_ground(given, reader.label_set)
    confusion = Confusion(common)
    annotated = np.zeros(256, np.int64)
    rows = scored_rows(index)
    with_map = [row for row in rows if row.key in reader]
    if not with_map:
        raise ReidpipeError(
            f"found no label map of the {len(rows)} images with ground truth of '{index.dataset}'; "
            f"expected maps of them; type reidpipe parse {index.dataset}"
        )
    check_sizes(index, with_map)
    for row in with_map:
        labels = read_annotation(index.root, row, given)
        annotated += np.bincount(labels.ravel(), minlength=256)
        confusion.add(of_truth[labels], of_maps[nearest_resized(reader[row.key][0], labels.shape)])
    splits = dict(Counter(row.split for row in with_map))
    counted = confusion.counts.sum(1) / max(1, confusion.counts.sum())
    annotated[IGNORE] = 0
    left_out = {
        name: float(annotated[place] / annotated.sum())
        for place, name in enumerate(given.names)
        if of_truth[place] == IGNORE and annotated[place]
    }
    return {
        **confusion.scores(),
        **({"not_scored": left_out} if left_out else {}),
        "share": dict(zip(common.names, map(float, counted), strict=True)),
        "images": len(with_map),
        "without_map": len(rows) - len(with_map),
        "splits": splits,
        "label_set": common.name,
        "truth_set": given.name,
        "maps_set": reader.label_set.name,
        "protocol": "; ".join(
            (
                f"{index.dataset}, {len(with_map)} images with ground truth "
                f"({', '.join(f'{split} {count}' for split, count in splits.items())})",
                _labels_told(truth, given, reader.label_set, common, left_out),
                f"maps {reader.size[0]}x{reader.size[1]} taken to the truth's size by nearest "
                "neighbour",
                "IoU per class from one confusion matrix over all annotated pixels, mean over the "
                "classes that occur in truth or maps",
            )
        ),
    }


def check_truth(index: Index, truth: str | None) -> None:
    """Raise what ``score_maps`` would about the ground truth, as far as its first file and the
    headers of all show."""
    rows = scored_rows(index)
    read_annotation(index.root, rows[0], TRUTHS[truth] if truth else None)
    check_sizes(index, rows)


def check_sizes(index: Index, rows: Sequence[ImageRow]) -> None:
    """Raise ``ReidpipeError`` for ground truth of another size than its image, or of a form that
    ``read_labels`` refuses. Only headers are read.
    """
    wrong: list[str] = []
    for row in rows:
        path = index.root / row.extra["label_path"]
        with _opened(path) as image:
            width, height = image.size
        if (height, width) != (row.height, row.width):
            turned = (
                ", as if turned on its side" if (width, height) == (row.height, row.width) else ""
            )
            wrong.append(
                f"found label map {path} of {height}x{width} pixels (height x width) for image "
                f"{row.path} of {row.height}x{row.width}{turned}"
            )
    if wrong:
        raise ReidpipeError(
            f"{wrong[0]}; expected the same size ({len(wrong)} of {len(rows)} label maps have "
            "another); export them again at the size of their images"
        )


def scored_rows(index: Index) -> list[ImageRow]:
    """The rows ``score_maps`` counts; raises ``ReidpipeError`` where none has ground truth."""
    rows = {}
    for row in index.rows:
        if row.extra.get("label_path"):
            rows.setdefault((row.path, row.split in TEST_SIDE), row)
    for side in (TEST_SIDE, ("val",), ("train",)):
        chosen = [row for row in rows.values() if row.split in side]
        if chosen:
            return chosen
    raise ReidpipeError(
        f"found no ground truth in dataset '{index.dataset}'; expected rows with a label_path; "
        "type reidpipe parse mannequins --score"
    )


def _labels_told(
    truth: str | None,
    given: LabelSet,
    maps: LabelSet,
    common: LabelSet,
    left_out: dict[str, float],
) -> str:
    if common.name != given.name:
        told = (
            f"truth in labels of {given.name}, maps in {maps.name}, both scored in the "
            f"{len(common)} classes they share ({', '.join(common.names)})"
        )
        if left_out:
            told += (
                f"; {100 * sum(left_out.values()):.1f} % of the truth says nothing in these and is "
                f"not scored ({', '.join(left_out)})"
            )
        return told
    assumed = "" if truth else ", which the dataset does not say: taken to be the maps'"
    return f"labels of {given.name}{assumed}"


def read_annotation(root: Path, row: ImageRow, label_set: LabelSet | None) -> np.ndarray:
    """The ground truth of a row that has one, as ``read_labels``. Raises ReidpipeError, too, for a
    file that is another than when it was indexed.
    """
    label = annotation(root, row)
    return read_labels(label.path, label_set, BytesIO(label.read()))


def read_labels(
    path: Path, label_set: LabelSet | None, content: BytesIO | None = None
) -> np.ndarray:
    """A ground-truth map: u1 (H, W) from a lossless 8-bit grey or palette image.

    content: the file's bytes, where they have been read. label_set: that of the file; None where
    nobody says which. 255 (not annotated) is let through.
    Raises ``ReidpipeError`` for a lossy file, whatever its suffix (JPEG turns labels into other
    labels), for colours, and for labels outside the set.
    """
    with _opened(path, content) as image:
        labels = np.array(image)
    found = int(labels[labels != IGNORE].max(initial=0))
    if label_set is not None and found >= len(label_set):
        raise ReidpipeError(
            f"found label {found} in {path}; expected 0..{len(label_set) - 1} of label set "
            f"'{label_set.name}'; name the set the file was made with"
        )
    return labels


@contextmanager
def _opened(path: Path, content: BytesIO | None = None) -> Iterator[PIL.Image.Image]:
    """A label map whose header is read; ``read_labels`` says what is raised."""
    from PIL import Image, UnidentifiedImageError

    try:
        with content or path.open("rb") as file:
            start = file.read(32)
            file.seek(0)
            with Image.open(file, formats=known_formats()) as image:
                lossy = image.format in {"JPEG", "MPO", "JPEG2000"} or (
                    image.format == "WEBP" and b"VP8 " in start
                )
                if lossy or image.mode not in {"L", "P"}:
                    raise ReidpipeError(
                        f"found label map {path} as {image.format} in mode {image.mode}; expected "
                        "a lossless 8-bit image of class numbers; export it again as PNG"
                    )
                yield image
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ReidpipeError(
            f"found label map {path} unreadable ({' '.join(str(error).split())}); expected a "
            "lossless 8-bit image of class numbers; unpack the annotations again"
        ) from error
