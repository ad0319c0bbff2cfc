"""What generated people are made of: tubes and patches in three dimensions, each of one class."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from pipeline.mannequins.identities import Rgb
from pipeline.mannequins.pose import Point

Section = tuple[float, float, float, float, float]

(
    BACKGROUND, HAT, HAIR, GLOVE, SUNGLASSES, UPPER, DRESS, COAT, SOCKS, PANTS, JUMPSUITS, SCARF,
    SKIRT, FACE, LEFT_ARM, RIGHT_ARM, LEFT_LEG, RIGHT_LEG, LEFT_SHOE, RIGHT_SHOE,
) = range(20)  # fmt: skip


@dataclass(slots=True)
class Shape:
    """A tube of elliptic cross-sections, or a patch on its surface.

    ``sections``: (x, y, z, a, b), centre and half-axes a (sideways) and b (forward), in body
    heights and the axes of ``Skeleton``. ``half`` < pi keeps only azimuths within ``half`` of
    ``centre`` (radians; 0 = front, pi/2 = the person's left). ``layer``: painted from low to high,
    after adding the nearness to the camera of ``anchor``, or of the tube's middle; layers of cloth
    over one limb share an anchor, so that no turn of the limb reorders them. ``cap``: roundness of
    the ends, 0 = cut flat.
    """

    sections: list[Section]
    label: int
    rgb: Rgb
    layer: float
    cap: float = 1.0
    centre: float = 0.0
    half: float = pi
    patterned: bool = False
    cloth: bool = True
    second: Rgb | None = None
    anchor: Point | None = None


def ellipsoid(
    centre: Point, a: float, height: float, b: float, low: float = -1.0, high: float = 1.0
) -> list[Section]:
    """Sections of an upright ellipsoid between the relative heights ``low`` and ``high``."""
    rows = np.sin(np.linspace(np.arcsin(low), np.arcsin(high), 7))
    widths = np.sqrt(np.maximum(0.0, 1 - rows * rows))
    x, y, z = centre
    return [
        (x, y + height * t, z, a * w, b * w)
        for t, w in zip(rows.tolist(), widths.tolist(), strict=True)
    ]
