"""Pascal-Context person parts: label maps that exist only as MATLAB annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.atomic import replacing
from pipeline.datasets.layouts.files import Reading
from pipeline.datasets.layouts.matlab import read_mat
from pipeline.datasets.layouts.rows import LayoutRow, read_lines
from pipeline.terminal.errors import ReidpipeError

PERSON = 15
# Fine parts of the annotation -> the six classes of the ReID literature (0 is background).
PART_CLASSES = {
    **dict.fromkeys(
        ("head", "hair", "lear", "rear", "lebrow", "rebrow", "leye", "reye", "mouth", "nose"), 1
    ),
    **dict.fromkeys(("torso", "neck"), 2),
    **dict.fromkeys(("luarm", "ruarm"), 3),
    **dict.fromkeys(("llarm", "rlarm", "lhand", "rhand"), 4),
    **dict.fromkeys(("luleg", "ruleg"), 5),
    **dict.fromkeys(("llleg", "rlleg", "lfoot", "rfoot"), 6),
}


def read_pascal_context(reading: Reading, output: Path) -> None:
    """Rows of images that show a person with parts; label maps go to ``output/labels`` as PNG.

    Images without such a person are left out and counted: the reference loader gives them an
    empty map, which says nothing about parsing. Pixels of a person that no part covers stay
    background, as there. ``label_path`` is absolute when ``output`` lies outside the root.
    """
    images, parts = reading.place("JPEGImages"), reading.place("human_parts")
    assert images is not None and parts is not None
    labels = output / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    for source in reading.layout.sources:
        assert source.list is not None
        listing = reading.place(source.list)
        assert listing is not None
        for name in read_lines(listing):
            image, annotation = images / f"{name}.jpg", parts / f"{name}.mat"
            for path in (image, annotation):
                if not path.is_file():
                    raise ReidpipeError(
                        f"{listing} names {name}, but found no {path}; expected the whole "
                        f"{reading.manifest.title}; unpack it again"
                    )
            target = labels / f"{name}.png"
            if not target.is_file() and not _write_labels(annotation, target):
                reading.dropped["without an annotated person"] += 1
                continue
            inside = target.is_relative_to(reading.root)
            reading.rows.append(
                LayoutRow(
                    path=reading.relative(image),
                    split=source.split,
                    pid=None,
                    extra={"label_path": reading.relative(target) if inside else str(target)},
                )
            )


def _write_labels(annotation: Path, target: Path) -> bool:
    from PIL import Image

    labels = part_labels(annotation)
    if labels is None:
        return False
    with replacing(target) as temporary:
        Image.fromarray(labels).save(temporary, format="PNG")
    return True


def part_labels(annotation: Path) -> np.ndarray | None:
    """Label map u1 (H, W), values 0..6, of one annotation file; None when it shows no parts.

    Raises ReidpipeError for a file without the expected structure or with an unknown part.
    """
    try:
        objects = read_mat(annotation, ("anno",))["anno"][0][0][1][0]
    except IndexError as error:
        raise ReidpipeError(
            f"{annotation}: found no object list in 'anno'; expected a human_parts annotation"
        ) from error
    labels: np.ndarray | None = None
    for entry in objects:
        category, mask, parts = int(np.asarray(entry[1]).item()), entry[2], entry[3]
        if category != PERSON or len(parts) == 0:
            continue
        drawn = np.zeros(mask.shape, dtype=np.uint8) if labels is None else labels
        for part in parts[0]:
            drawn[np.asarray(part[1]).astype(bool)] = _part_class(part, annotation)
        labels = drawn
    return labels


def _part_class(part: Any, annotation: Path) -> int:
    name = str(part[0][0])
    if name not in PART_CLASSES:
        raise ReidpipeError(
            f"{annotation}: found part '{name}'; expected one of {', '.join(PART_CLASSES)}"
        )
    return PART_CLASSES[name]
