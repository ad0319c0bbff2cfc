"""From shapes in three dimensions to polygons in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from pipeline.mannequins.pose import Point
from pipeline.mannequins.shape import Shape

UNLIT = 128
"""Grey level of the shading canvas that leaves a colour as it is."""

_STRIPS = 5  # lengthwise strips of one brightness each, blurred into a round form later
_CAP_ANGLES = np.array([0.3, 0.75, 1.15, 1.5], dtype=np.float32)


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


@dataclass(slots=True)
class Outline:
    """A projected shape.

    ``doubled``: flat x, y, x, y, ... of its polygon in pixels of twice the size, whole numbers.
    ``strips``: polygons in pixels, ``greys`` their levels for the shading canvas. ``layer``: paint
    from low to high.
    """

    doubled: list[int]
    strips: list[list[float]]
    greys: list[int]
    layer: float
    visible: bool


def _middle(shape: Shape) -> Point:
    first, last = shape.sections[0], shape.sections[-1]
    return (0.5 * (first[0] + last[0]), 0.5 * (first[1] + last[1]), 0.5 * (first[2] + last[2]))


def project(shapes: Sequence[Shape], view: Projection) -> list[Outline]:
    """Outlines of all shapes at once, in the shapes' order.

    A tube's silhouette runs at its half-width on both sides of its axis; an elliptic section seen
    at an angle has half-width hypot(a cos turn, b sin turn), and a point of its surface at azimuth
    p appears at sin(p + atan2(b sin turn, a cos turn)) of it.
    """
    count, longest = len(shapes), max(len(shape.sections) for shape in shapes)
    padded = np.array(
        [
            [*shape.sections, *[shape.sections[-1]] * (longest - len(shape.sections))]
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
    seen: np.ndarray = np.any((high - low) > 0.02, axis=1)
    low, high = np.sin(low), np.sin(high)

    axis = centre[:, -1] - centre[:, 0]
    length = np.hypot(axis[:, 0], axis[:, 1])
    axis = np.where(
        length[:, None] > 1e-4,
        axis / np.maximum(length, 1e-4)[:, None],
        np.array([0, 1], dtype=np.float32),
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
    anchors = np.array([shape.anchor or _middle(shape) for shape in shapes])
    depth = anchors[:, 2] * turn_cos - anchors[:, 0] * turn_sin
    grey = (0.62 + 0.5 * np.maximum(0.0, lit)) * np.clip(1 + 0.7 * depth, 0.75, 1.1)[:, None]
    shades = np.clip(grey * UNLIT, 0, 255).astype(np.uint8).tolist()

    backward = points[:, ::-1]
    strips = np.concatenate([points[:, :, :-1], backward[:, :, 1:]], axis=1)  # T, 2S', K, 2
    strips = np.moveaxis(strips, 2, 1).reshape(count, _STRIPS, -1).tolist()
    outlines = np.concatenate([points[:, :, 0], backward[:, :, -1]], axis=1)
    outlines = np.rint(2 * outlines).astype(np.int32).reshape(count, -1).tolist()
    layers = (np.array([shape.layer for shape in shapes]) + depth).tolist()
    return [
        Outline(*fields)
        for fields in zip(outlines, strips, shades, layers, seen.tolist(), strict=True)
    ]
