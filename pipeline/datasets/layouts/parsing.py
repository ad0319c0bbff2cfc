"""Parsing sets whose label maps exist only as MATLAB annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.atomic import replacing
from pipeline.datasets.layouts.files import Reading
from pipeline.datasets.layouts.matlab import read_mat, try_mats
from pipeline.datasets.layouts.rows import (
    LayoutRow,
    read_lines,
    walk_files,
    walk_images,
)
from pipeline.images.pixels import known_formats
from pipeline.labels.garments import CCP
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import shortened

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
        names = read_lines(listing)
        places = {parts / f"{name}.mat": labels / f"{name}.png" for name in names}
        try_mats([at for at, drawn in places.items() if at.is_file() and not drawn.is_file()])
        for name in names:
            image, annotation = images / f"{name}.jpg", parts / f"{name}.mat"
            for path in (image, annotation):
                if not path.is_file():
                    raise ReidpipeError(
                        f"{listing} names {name}, but found no {path}; expected the whole "
                        f"{reading.manifest.title}; unpack it again"
                    )
            target = labels / f"{name}.png"
            if not target.is_file():
                drawn = part_labels(annotation)
                if drawn is None:
                    reading.leave_out("without an annotated person", image)
                    continue
                _write(drawn, target)
            _add(reading, image, target, source.split)


def read_ccp(reading: Reading, output: Path) -> None:
    """Rows of Clothing Co-Parsing's photographs that have a label map, written as PNG as above.

    The other photographs carry tags of the whole image only; they are left out and counted.
    Raises ReidpipeError for a map without its photograph, of another size than that, or with
    another label than 0..58.
    """
    from PIL import Image

    photos, maps = reading.place("photos"), reading.place("annotations/pixel-level")
    assert photos is not None and maps is not None
    labels = output / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    annotations = {
        Path(entry.name).stem: maps / entry.name for _, entry in walk_files(maps, depth=1)
    }
    try_mats([at for stem, at in annotations.items() if not (labels / f"{stem}.png").is_file()])
    (source,) = reading.layout.sources
    for image in walk_images(photos, depth=1):
        annotation = annotations.pop(image.stem, None)
        if annotation is None:
            reading.leave_out("without a label map", image)
            continue
        target = labels / f"{image.stem}.png"
        if not target.is_file():
            drawn = ccp_labels(annotation)
            with Image.open(image, formats=known_formats()) as photo:
                size = photo.height, photo.width
            if drawn.shape != size:
                raise ReidpipeError(
                    f"{annotation}: found a map of {drawn.shape[0]} x {drawn.shape[1]}; expected "
                    f"{size[0]} x {size[1]} like {image.name}; fetch both again"
                )
            _write(drawn, target)
        _add(reading, image, target, source.split)
    if annotations:
        raise ReidpipeError(
            f"found no photograph of {len(annotations)} label maps in {photos}: "
            f"{shortened(sorted(annotations))}; expected the whole {reading.manifest.title}; "
            "fetch it again"
        )


def _add(reading: Reading, image: Path, target: Path, split: str) -> None:
    inside = target.is_relative_to(reading.root)
    reading.rows.append(
        LayoutRow(
            path=reading.relative(image),
            split=split,
            pid=None,
            extra={"label_path": reading.relative(target) if inside else str(target)},
        )
    )


def _write(labels: np.ndarray, target: Path) -> None:
    from PIL import Image

    with replacing(target) as temporary:
        Image.fromarray(labels).save(temporary, format="PNG")


def ccp_labels(annotation: Path) -> np.ndarray:
    """Label map u1 (H, W), values 0..58, of one file of Clothing Co-Parsing, which was tried.

    Raises ReidpipeError for a file without such a map.
    """
    labels = np.asarray(read_mat(annotation, ("groundtruth",), tried=True)["groundtruth"])
    if labels.ndim != 2 or labels.dtype.kind not in "uif" or labels.size == 0:
        raise ReidpipeError(
            f"{annotation}: found 'groundtruth' of shape {labels.shape}; expected a map of labels; "
            "fetch it again"
        )
    if not np.isin(labels, np.arange(len(CCP))).all():
        raise ReidpipeError(
            f"{annotation}: found a label outside 0..{len(CCP) - 1}; expected those of CCP; "
            "fetch it again"
        )
    return labels.astype(np.uint8)


def part_labels(annotation: Path) -> np.ndarray | None:
    """Label map u1 (H, W), values 0..6, of one annotation file, which was tried; None when it
    shows no parts.

    Raises ReidpipeError for a file without the expected structure or with an unknown part.
    """
    try:
        objects = read_mat(annotation, ("anno",), tried=True)["anno"][0][0][1][0]
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
