"""Paints shapes into one canvas of part numbers, from which image and label map both follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipeline.mannequin_identity import Rgb
from pipeline.mannequin_shape import Shape

_STRIPS = 5
_CAP_ANGLES = np.array([0.3, 0.75, 1.15, 1.5], dtype=np.float32)
_MAX_PARTS = 127  # part numbers above 127 mean: the same part, second colour of its pattern


@dataclass(frozen=True, slots=True)
class Projection:
    """From body axes to pixels.

    ``turn``: radians about the vertical axis (0 front, pi/2 the person faces the image's right).
    ``pitch``: radians by which the camera looks down. ``scale_x``, ``scale_y``: pixels per body
    height. ``centre_x``, ``ground_y``: pixel where the body's origin stands. ``light``: unit vector
    towards the light (image right, image up, camera).
    """

    turn: float
    pitch: float
    scale_x: float
    scale_y: float
    centre_x: float
    ground_y: float
    light: tuple[float, float, float]


class Canvas:
    """Part numbers at twice the size and shading at the size asked for.

    Painter's algorithm: what is painted later hides what was painted before, in the image and in
    the label map alike, so the two agree by construction.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        height, width = size
        self._parts = Image.new("L", (2 * width, 2 * height))
        self._shade = Image.new("L", (width, height), 128)
        self._draw_parts = ImageDraw.Draw(self._parts)
        self._draw_shade = ImageDraw.Draw(self._shade)
        self._draw_parts.fontmode = self._draw_shade.fontmode = "1"
        self._labels = [0]
        self._colours: list[Rgb] = [(0, 0, 0)]
        self._seconds: list[Rgb] = [(0, 0, 0)]
        self._patterned = [False]
        self._cloth = [False]

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
        self._draw_shade.ellipse(box, outline=128, width=max(1, round(width)))

    def disc(self, part: int, box: tuple[float, float, float, float], shade: float = 1.0) -> None:
        """A filled ellipse."""
        x0, y0, x1, y1 = box
        self._draw_parts.ellipse((2 * x0, 2 * y0, 2 * x1, 2 * y1), fill=part)
        self._draw_shade.ellipse(box, fill=_grey(shade))

    def shapes(self, shapes: Sequence[Shape], view: Projection, label: int | None = None) -> None:
        """Paint ``shapes`` from far to near; ``label`` replaces every shape's own class."""
        strips, shades, layers, seen = _project(shapes, view)
        for index in np.argsort(layers, kind="stable").tolist():
            if not seen[index]:
                continue
            shape = shapes[index]
            second = shape.second if shape.patterned else None
            part = self.part(
                shape.label if label is None else label,
                shape.rgb,
                cloth=shape.cloth,
                second=second,
            )
            outline, polygons = strips[index]
            self._draw_parts.polygon(outline, fill=part)
            for polygon, grey in zip(polygons, shades[index], strict=True):
                self._draw_shade.polygon(polygon, fill=grey)

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
        inked = self._parts.point([0] + [255] * 255).reduce(2)
        return flat, np.asarray(inked, dtype=np.float32)[..., None] / 255

    def shade(self) -> np.ndarray:
        """float32 (H, W): brightness factor from form and light, 1 = the colour itself."""
        smooth = self._shade.filter(ImageFilter.BoxBlur(max(0.6, self.size[0] / 256)))
        return np.asarray(smooth, dtype=np.float32) / 128

    def cloth(self) -> np.ndarray:
        """bool (H, W): pixels that folds may darken."""
        table = np.zeros(256, dtype=bool)
        table[: len(self._cloth)] = self._cloth
        return table[np.asarray(self._parts)[1::2, 1::2]]


def _grey(shade: float) -> int:
    return max(0, min(255, round(128 * shade)))


def _project(
    shapes: Sequence[Shape], view: Projection
) -> tuple[list[tuple[list, list]], list[list[int]], np.ndarray, list[bool]]:
    """Outlines, strips' brightness, layers and visibility of all shapes at once."""
    count, longest = len(shapes), max(len(shape.sections) for shape in shapes)
    padded = np.array(
        [
            shape.sections + shape.sections[-1:] * (longest - len(shape.sections))
            for shape in shapes
        ],
        dtype=np.float32,
    )  # T, S, 5
    x, y, z, a, b = np.moveaxis(padded, -1, 0)
    turn_cos, turn_sin = cos(view.turn), sin(view.turn)
    across = x * turn_cos + z * turn_sin
    near = z * turn_cos - x * turn_sin
    down = -(y * cos(view.pitch) - near * sin(view.pitch))
    centre = np.stack([across, down], axis=-1)  # T, S, 2
    half_width = np.hypot(a * turn_cos, b * turn_sin)
    azimuth = np.arctan2(b * turn_sin, a * turn_cos)

    middles = np.array([shape.centre for shape in shapes], dtype=np.float32)[:, None]
    halves = np.array([shape.half for shape in shapes], dtype=np.float32)[:, None]
    turned = np.mod(azimuth + middles + pi, 2 * pi) - pi
    low = np.clip(turned - halves, -pi / 2, pi / 2)
    high = np.clip(turned + halves, -pi / 2, pi / 2)
    whole = halves >= pi
    low, high = np.where(whole, -pi / 2, low), np.where(whole, pi / 2, high)
    # Sections that are invisible collapse to a line; a shape with none left is skipped.
    seen = ((high - low) > 0.02).any(axis=1)
    low, high = np.sin(low), np.sin(high)

    axis = centre[:, -1] - centre[:, 0]
    length = np.hypot(axis[:, 0], axis[:, 1])
    axis = np.where(
        length[:, None] > 1e-4, axis / np.maximum(length, 1e-4)[:, None], np.float32([0, 1])
    )
    # Round ends in the image plane, so that limbs which point at the camera stay round.
    # A patch is no solid: it has no round ends of its own.
    caps = np.array([shape.cap for shape in shapes], dtype=np.float32)[:, None] * whole
    reach = np.sin(_CAP_ANGLES)[None] * caps
    shrink = np.where(caps > 0, np.cos(_CAP_ANGLES)[None], 1.0)
    first = (half_width[:, :1] * reach)[:, ::-1, None]
    last = (half_width[:, -1:] * reach)[:, :, None]
    centre = np.concatenate(
        [
            centre[:, :1] - first * axis[:, None],
            centre,
            centre[:, -1:] + last * axis[:, None],
        ],
        axis=1,
    )
    half_width = np.concatenate(
        [half_width[:, :1] * shrink[:, ::-1], half_width, half_width[:, -1:] * shrink], axis=1
    )
    extra = len(_CAP_ANGLES)
    low = np.pad(low, ((0, 0), (extra, extra)), mode="edge")
    high = np.pad(high, ((0, 0), (extra, extra)), mode="edge")

    # ``normal`` points to the image's right of an upright shape, whichever way its axis runs.
    upright = np.where(axis[:, 1:] >= 0, 1.0, -1.0)
    normal = np.stack([axis[:, 1], -axis[:, 0]], axis=-1) * upright
    edges = np.linspace(0, 1, _STRIPS + 1, dtype=np.float32)
    sideways = low[..., None] + (high - low)[..., None] * edges  # T, S', K+1
    offset = sideways * half_width[..., None]
    points = centre[:, :, None] + offset[..., None] * normal[:, None, None]  # T, S', K+1, 2
    points[..., 0] = points[..., 0] * view.scale_x + view.centre_x
    points[..., 1] = points[..., 1] * view.scale_y + view.ground_y

    middle = sideways[:, sideways.shape[1] // 2]
    at = 0.5 * (middle[:, 1:] + middle[:, :-1])  # T, K
    facing = np.sqrt(np.maximum(0.0, 1 - at * at))
    right, up, towards = view.light
    lit = at * (normal[:, :1] * right - normal[:, 1:] * up) + facing * towards
    depth = 0.5 * (near[:, 0] + near[:, -1])
    grey = (0.62 + 0.5 * np.maximum(0.0, lit)) * np.clip(1 + 0.7 * depth, 0.75, 1.1)[:, None]
    shades = np.clip(grey * 128, 0, 255).astype(np.uint8).tolist()

    backward = points[:, ::-1]
    strips = np.concatenate([points[:, :, :-1], backward[:, :, 1:]], axis=1)  # T, 2S', K, 2
    strips = np.moveaxis(strips, 2, 1).reshape(count, _STRIPS, -1).tolist()
    outlines = np.concatenate([points[:, :, 0], backward[:, :, -1]], axis=1)
    outlines = np.rint(2 * outlines).astype(np.int32).reshape(count, -1).tolist()
    layers = np.array([shape.layer for shape in shapes]) + depth
    return list(zip(outlines, strips, strict=True)), shades, layers, seen.tolist()
