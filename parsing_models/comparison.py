"""Two parsers on the same images: where they agree, where they differ most, and a sheet of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from parsing_models.scoring import Confusion
from pipeline.artifacts.atomic import write_json
from pipeline.datasets.index import Index, read_index
from pipeline.datasets.withheld import card, pictures_allowed
from pipeline.images.pixels import decode
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.pictures import (
    LegendEntry,
    Tile,
    contact_sheet,
    fitted,
    legend,
    overlay,
    save_picture,
    shown_size,
)
from pipeline.labels.sets import PARTS, LabelSet, nearest_resized
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job

COMPARISON, SHEET = "comparison.json", "sheet.png"
MOST_DIFFERENT = 12
HEIGHT = 192
DIFFERS = (220, 20, 40)


def compare(job: Job) -> dict[str, Any]:
    """Worker of the step "comparison".

    inputs: ``first`` and ``second``, label maps; ``index``. params: ``names``, what to call the
    parsers. Writes ``comparison.json`` (the summary too) and ``sheet.png``: of the images that
    differ most image, first, second, and the pixels that differ.
    """
    found = compare_maps(job.inputs["first"], job.inputs["second"])
    first, second = job.params["names"]
    found = {"first": first, "second": second, **found}
    write_json(job.folder / COMPARISON, found)
    maps = LabelMapReader(job.inputs["first"]), LabelMapReader(job.inputs["second"])
    index = read_index(job.inputs["index"])
    save_picture(job.folder / SHEET, draw_comparison(index, maps, found))
    return found


def compare_maps(one: Path, other: Path, *, most: int = MOST_DIFFERENT) -> dict[str, Any]:
    """How far two parsers agree on the images both have maps of.

    Maps of different label sets are compared in the five parts both know. ``Confusion.scores`` with
    the first in place of the truth (exchanging them changes no IoU; ``pixel_accuracy`` is the share
    of equal pixels) plus ``images``, ``only_one`` (images that one of them has no map of),
    ``label_set``, and ``most_different``: key and share of equal pixels of at most ``most`` images
    that differ at all, the worst first, equal ones by key. Raises ``ReidpipeError`` without a
    common image.
    """
    first, second = LabelMapReader(one), LabelMapReader(other)
    common = common_set(first.label_set, second.label_set)
    tables = [reader.label_set.map_to(common) for reader in (first, second)]
    confusion = Confusion(common)
    shared = [key for key in first if key in second]
    if not shared:
        raise ReidpipeError(
            f"found no image with maps in both {one} and {other}; expected maps of one dataset; "
            "type reidpipe parse DATASET --compare A B"
        )
    equal = {}
    for key in shared:
        labels = tables[0][first[key][0]]
        others = tables[1][nearest_resized(second[key][0], labels.shape)]
        confusion.add(labels, others)
        equal[key] = float((labels == others).mean())
    worst = sorted((share, key) for key, share in equal.items() if share < 1)[:most]
    return {
        **confusion.scores(),
        "images": len(shared),
        "only_one": len(first) + len(second) - 2 * len(shared),
        "label_set": common.name,
        "most_different": [{"key": key, "equal": share} for share, key in worst],
    }


def common_set(first: LabelSet, second: LabelSet) -> LabelSet:
    """Their label set when it is one, else what all sets can tell apart."""
    return first if first.names == second.names else PARTS


def draw_comparison(
    index: Index, maps: tuple[LabelMapReader, LabelMapReader], found: Mapping[str, Any]
) -> np.ndarray:
    """The sheet of ``most_different``: uint8 (H, W, 3) RGB; without any, one of the first images.

    Labels are drawn in the common set; a pixel that differs is red on the grey image. For images
    that may not be shown there are cards with their keys.
    """
    shown = pictures_allowed(index.dataset, index.definition)
    rows = {row.key: row for row in index.rows}
    chosen = {entry["key"]: entry["equal"] for entry in found["most_different"]}
    if not chosen:
        chosen = {key: 1.0 for key in [key for key in maps[0] if key in maps[1]][:1]}
    common = common_set(maps[0].label_set, maps[1].label_set)
    tables = [reader.label_set.map_to(common) for reader in maps]
    tiles, drawn = [], []
    for key, share in chosen.items():
        caption = f"{100 * share:.1f} % equal  {key}"
        if not shown:
            tiles.append(Tile([card(key, (HEIGHT, HEIGHT // 2))], caption))
            continue
        image = decode(index.original(rows[key]), decoding=index.decoding)
        labels = tables[0][maps[0][key][0]]
        both = [labels, tables[1][nearest_resized(maps[1][key][0], labels.shape)]]
        size = shown_size(image, HEIGHT)
        both = [fitted(each, size, exact=True) for each in both]
        pictures = [fitted(image, size), *(overlay(image, each, common) for each in both)]
        pictures.append(_difference(pictures[0], both[0] != both[1]))
        tiles.append(Tile(pictures, caption))
        drawn += both
    differing = 1 - found["pixel_accuracy"]
    entries = [
        *legend(drawn, common),
        LegendEntry("differs, of all images", "#{:02x}{:02x}{:02x}".format(*DIFFERS), differing),
    ]
    return contact_sheet(
        tiles,
        entries,
        title=f"{found['first']} and {found['second']} on {index.dataset}",
        subtitle=(
            f"each: image, {found['first']}, {found['second']}, difference; the {len(tiles)} of "
            f"{found['images']} images that differ most; labels of {common.name}"
        ),
    )


def _difference(image: np.ndarray, differs: np.ndarray) -> np.ndarray:
    grey = np.repeat(image.mean(2, keepdims=True) * 0.6 + 90, 3, axis=2)
    return np.where(differs[..., None], DIFFERS, grey).astype(np.uint8)
