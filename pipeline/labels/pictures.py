"""Label maps as pictures: laid over their images, and sheets of many with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts.atomic import replacing
from pipeline.labels.sets import LabelSet


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


INK, PAPER, FAINT = (30, 30, 30), (255, 255, 255), (110, 110, 110)
MARGIN, GAP, LINE = 10, 2, 14
_WIDEST = 2.0  # of a picture, in heights: panoramas would push everything else off the sheet


@dataclass(frozen=True)
class Tile:
    """Pictures of one image side by side, uint8 (H, W, 3) RGB of one size, and a caption below."""

    pictures: Sequence[np.ndarray]
    caption: str


def shown_size(image: np.ndarray, height: int) -> tuple[int, int]:
    """(H, W) at which a contact sheet shows an image (h, w, 3): its own aspect, not too wide."""
    h, w = image.shape[:2]
    return height, max(1, round(height * min(w / h, _WIDEST)))


def fitted(picture: np.ndarray, size: tuple[int, int], *, exact: bool = False) -> np.ndarray:
    """A picture (h, w, 3) or label map (h, w), uint8, at ``size`` (H, W).

    exact: no new values (nearest neighbour), for label maps and drawings in flat colours.
    """
    from PIL import Image

    way = Image.Resampling.NEAREST if exact else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), way))


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB as PNG, whole or not at all."""
    from PIL import Image

    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def contact_sheet(
    tiles: Sequence[Tile],
    entries: Sequence[LegendEntry],
    *,
    title: str,
    subtitle: str = "",
    width: int = 1240,
) -> np.ndarray:
    """Tiles in rows under a title, the colours' names below: uint8 (H, W, 3) RGB.

    width: of the sheet in pixels; one tile may be wider. Captions that do not fit lose their start,
    where file names of one folder are alike.
    """
    from PIL import Image, ImageDraw, ImageFont

    font, bold = ImageFont.load_default(11), ImageFont.load_default(15)
    cells = [_joined(tile.pictures) for tile in tiles]
    rows = _rows([cell.shape[1] for cell in cells], width - 2 * MARGIN)
    across = max([width, *(sum(cells[n].shape[1] + MARGIN for n in row) + MARGIN for row in rows)])
    # Text is laid out on a sheet of no height first, to know how high it has to be.
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    shares = [f"{entry.name} {100 * entry.share:.1f} %" for entry in entries]
    swatches = _rows([int(pen.textlength(text, font)) + 30 for text in shares], across - 2 * MARGIN)
    top = MARGIN + 20 + (LINE if subtitle else 0) + 4
    heights = [max(cells[n].shape[0] for n in row) + LINE + MARGIN for row in rows]
    sheet = Image.new(
        "RGB", (across, top + sum(heights) + len(swatches) * (LINE + 4) + MARGIN), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), title, fill=INK, font=bold)
    if subtitle:
        pen.text((MARGIN, MARGIN + 20), subtitle, fill=FAINT, font=font)
    for row, height in zip(rows, heights, strict=True):
        left = MARGIN
        for n in row:
            sheet.paste(Image.fromarray(cells[n]), (left, top))
            caption = tiles[n].caption
            while len(caption) > 4 and pen.textlength(caption, font) > cells[n].shape[1]:
                caption = "..." + caption.removeprefix("...")[1:]
            pen.text((left, top + cells[n].shape[0] + 2), caption, fill=INK, font=font)
            left += cells[n].shape[1] + MARGIN
        top += height
    for row in swatches:
        left = MARGIN
        for n in row:
            box = (left, top + 1, left + 11, top + 12)
            pen.rectangle(box, fill=entries[n].colour, outline=INK)
            pen.text((left + 16, top), shares[n], fill=INK, font=font)
            left += int(pen.textlength(shares[n], font)) + 40
        top += LINE + 4
    return np.asarray(sheet)


def _joined(pictures: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)


def _rows(widths: Sequence[int], across: int) -> list[list[int]]:
    """Places of things of these widths in rows of ``across`` pixels, in their order."""
    rows: list[list[int]] = []
    free = 0
    for number, width in enumerate(widths):
        if not rows or width > free:
            rows.append([])
            free = across
        rows[-1].append(number)
        free -= width + MARGIN
    return rows
