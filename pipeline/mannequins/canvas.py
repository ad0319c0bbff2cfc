"""Paints shapes into one canvas of part numbers, from which image and label map both follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipeline.mannequins.identities import Rgb
from pipeline.mannequins.projection import UNLIT, Projection, project
from pipeline.mannequins.shape import Shape

_MAX_PARTS = 127  # part numbers above 127 mean: the same part, second colour of its pattern


class Canvas:
    """Part numbers at twice the size and shading at the size asked for.

    Painter's algorithm: what is painted later hides what was painted before, in the image and in
    the label map alike, so the two agree by construction.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        height, width = size
        self._parts = Image.new("L", (2 * width, 2 * height))
        self._shade = Image.new("L", (width, height), UNLIT)
        self._draw_parts = ImageDraw.Draw(self._parts)
        self._draw_shade = ImageDraw.Draw(self._shade)
        self._draw_parts.fontmode = self._draw_shade.fontmode = "1"
        self._labels = [0]
        self._colours: list[Rgb] = [(0, 0, 0)]
        self._seconds: list[Rgb] = [(0, 0, 0)]
        self._patterned = [False]
        self._cloth = [False]

    def copy(self) -> Canvas:
        """What is painted so far, to be painted on without this canvas."""
        other = Canvas(self.size)
        other._parts.paste(self._parts)
        other._shade.paste(self._shade)
        for name in ("_labels", "_colours", "_seconds", "_patterned", "_cloth"):
            setattr(other, name, list(getattr(self, name)))
        return other

    def part(self, label: int, rgb: Rgb, *, cloth: bool = True, second: Rgb | None = None) -> int:
        """A new part number for pixels of class ``label`` and colour ``rgb``."""
        if len(self._labels) > _MAX_PARTS:
            raise ValueError(f"more than {_MAX_PARTS} parts on one canvas")
        self._labels.append(label)
        self._colours.append(rgb)
        self._seconds.append(rgb if second is None else second)
        self._patterned.append(second is not None)
        self._cloth.append(cloth)
        return len(self._labels) - 1

    def polygon(self, part: int, points: Sequence[tuple[float, float]], shade: float = 1.0) -> None:
        """Fill a polygon given in pixels (x, y) of the final size."""
        self._draw_parts.polygon([(2 * x, 2 * y) for x, y in points], fill=part)
        self._draw_shade.polygon(list(points), fill=_grey(shade))

    def ring(self, part: int, box: tuple[float, float, float, float], width: float) -> None:
        """An ellipse's outline ``width`` pixels wide."""
        x0, y0, x1, y1 = box
        double = (2 * x0, 2 * y0, 2 * x1, 2 * y1)
        self._draw_parts.ellipse(double, outline=part, width=max(1, round(2 * width)))
        self._draw_shade.ellipse(box, outline=UNLIT, width=max(1, round(width)))

    def disc(self, part: int, box: tuple[float, float, float, float], shade: float = 1.0) -> None:
        """A filled ellipse."""
        x0, y0, x1, y1 = box
        self._draw_parts.ellipse((2 * x0, 2 * y0, 2 * x1, 2 * y1), fill=part)
        self._draw_shade.ellipse(box, fill=_grey(shade))

    def shapes(self, shapes: Sequence[Shape], view: Projection, label: int | None = None) -> None:
        """Paint ``shapes`` from far to near; ``label`` replaces every shape's own class."""
        outlines = project(shapes, view)
        for index in np.argsort([outline.layer for outline in outlines], kind="stable").tolist():
            shape, outline = shapes[index], outlines[index]
            if not outline.visible:
                continue
            second = shape.second if shape.patterned else None
            part = self.part(
                shape.label if label is None else label,
                shape.rgb,
                cloth=shape.cloth,
                second=second,
            )
            self._draw_parts.polygon(outline.doubled, fill=part)
            for strip, grey in zip(outline.strips, outline.greys, strict=True):
                self._draw_shade.polygon(strip, fill=grey)

    def parts(self, pattern: np.ndarray | None = None) -> np.ndarray:
        """uint8 (2H, 2W): part numbers, +128 where the boolean ``pattern`` (2H, 2W) is set."""
        parts = np.asarray(self._parts)
        if pattern is None or not any(self._patterned):
            return parts
        patterned = np.zeros(256, dtype=np.uint8)
        patterned[: len(self._patterned)] = np.array(self._patterned, dtype=np.uint8) * 128
        return parts + patterned[parts] * pattern

    def label(self) -> np.ndarray:
        """uint8 (H, W): the LIP class of every pixel's centre."""
        table = np.zeros(256, dtype=np.uint8)
        table[: len(self._labels)] = self._labels
        return table[np.asarray(self._parts)[1::2, 1::2]]

    def colour(self, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(premultiplied RGB float32 (H, W, 3) in 0..255, coverage float32 (H, W, 1) in 0..1)."""
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[: len(self._colours)] = self._colours
        palette[128 : 128 + len(self._seconds)] = self._seconds
        picture = Image.fromarray(parts).convert("P")
        picture.putpalette(palette.tobytes(), "RGB")
        flat = np.asarray(picture.convert("RGB").reduce(2), dtype=np.float32)
        inked = Image.fromarray((np.asarray(self._parts) != 0) * np.uint8(255)).reduce(2)
        return flat, np.asarray(inked, dtype=np.float32)[..., None] / 255

    def shade(self) -> np.ndarray:
        """float32 (H, W): brightness factor from form and light, 1 = the colour itself."""
        smooth = self._shade.filter(ImageFilter.BoxBlur(max(0.6, self.size[0] / 256)))
        return np.asarray(smooth, dtype=np.float32) / UNLIT

    def cloth(self) -> np.ndarray:
        """bool (H, W): pixels that folds may darken."""
        table = np.zeros(256, dtype=bool)
        table[: len(self._cloth)] = self._cloth
        return table[np.asarray(self._parts)[1::2, 1::2]]


def _grey(shade: float) -> int:
    return max(0, min(255, round(UNLIT * shade)))
