"""Head of a generated person: face, hair, hat, sunglasses."""

from __future__ import annotations

from math import pi, radians

from pipeline.mannequins.identities import SKINS, Identity, Rgb
from pipeline.mannequins.pose import Point, Skeleton
from pipeline.mannequins.shape import FACE, HAIR, HAT, SUNGLASSES, Section, Shape, ellipsoid

_A, _HALF, _B = 0.044, 0.068, 0.054  # half-axes of the head: sideways, up, forward


def head(who: Identity, bones: Skeleton) -> list[Shape]:
    """Shapes of the head; its layers lie above the trunk's, long hair's beside the trunk."""
    lift, lean = bones.lift, bones.lean + 0.012
    centre = (0.0, 0.932 + lift, lean)
    skin, hair = SKINS[who.skin], who.colour("hair")
    if who.hair_style == "shaved":
        hair = _mixed(hair, skin, 0.45)
    thick = {"shaved": 0.001, "curly": 0.02}.get(who.hair_style, 0.007)
    crown = (centre[0], centre[1] + 0.4 * thick, centre[2] - 0.3 * thick)
    skull = ellipsoid(crown, _A + thick, _HALF + thick, _B + thick, low=-0.72)
    shapes = [Shape(skull, HAIR, hair, 1.0, 0.3, cloth=False)]
    shapes += _face(centre, skin, hair)
    shapes += _locks(who, centre, hair, lift)
    if who.sunglasses != "none":
        eyes = ellipsoid(centre, _A * 1.04, _HALF, _B * 1.04, low=0.0, high=0.3)
        lens = [eyes[0], eyes[3], eyes[-1]]
        glasses: Rgb = (24, 24, 28)
        shapes.append(Shape(lens, SUNGLASSES, glasses, 1.04, 0.0, half=radians(72), cloth=False))
    if who.hat != "none":
        shapes += _hat(who, centre, thick)
    return shapes


def _mixed(first: Rgb, second: Rgb, share: float) -> Rgb:
    mixed = [round(a + share * (b - a)) for a, b in zip(first, second, strict=True)]
    return (mixed[0], mixed[1], mixed[2])


def _face(centre: Point, skin: Rgb, hair: Rgb) -> list[Shape]:
    front = ellipsoid(centre, _A, _HALF, _B, low=-1.0, high=0.46)
    shapes = [Shape(front, FACE, skin, 1.01, 0.0, half=radians(76), cloth=False)]
    dark = _mixed(skin, (40, 20, 20), 0.62)
    lips = _mixed(skin, (150, 40, 48), 0.5)
    level = ellipsoid(centre, _A, _HALF, _B, low=0.04, high=0.17)
    brow = ellipsoid(centre, _A, _HALF, _B, low=0.25, high=0.32)
    mouth = ellipsoid(centre, _A, _HALF, _B, low=-0.6, high=-0.5)
    for sign in (-1, 1):
        aside = sign * radians(27)
        for rows, rgb in ((level, dark), (brow, _mixed(skin, hair, 0.7))):
            shapes.append(
                Shape([rows[0], rows[-1]], FACE, rgb, 1.012, 0.0, aside, radians(11), cloth=False)
            )
    shapes.append(
        Shape([mouth[0], mouth[-1]], FACE, lips, 1.012, 0.0, half=radians(22), cloth=False)
    )
    return shapes


def _locks(who: Identity, centre: Point, hair: Rgb, lift: float) -> list[Shape]:
    x, y, z = centre
    style = who.hair_style
    shapes: list[Shape] = []
    if style in ("bob", "long"):
        bottom = 0.862 if style == "bob" else 0.85
        wide = 1.24 if style == "bob" else 1.16
        rows: list[Section] = [
            (x, y + 0.05, z, _A * 1.0, _B * 1.0),
            (x, y + 0.02, z - 0.004, _A * 1.16, _B * 1.12),
            (x, y - 0.03, z - 0.01, _A * wide, _B * 1.1),
            (x, bottom + lift, z - 0.016, _A * wide, _B * 1.02),
        ]
        gap = radians(58)
        shapes += [
            Shape(rows, HAIR, hair, 1.015, 0.1, sign * (pi + gap) / 2, (pi - gap) / 2, cloth=False)
            for sign in (1, -1)
        ]
    if style == "long":
        fall: list[Section] = [
            (x, y - 0.02, z - 0.03, _A * 1.15, 0.034),
            (x, 0.83 + lift, z - 0.062, _A * 1.35, 0.026),
            (x, 0.74 + lift, z - 0.082, _A * 1.35, 0.02),
            (x, 0.685 + lift, z - 0.082, _A * 0.9, 0.014),
        ]
        shapes.append(Shape(fall, HAIR, hair, 0.012, 0.2, cloth=False))
    elif style == "ponytail":
        tail: list[Section] = [
            (x, y + 0.02, z - 0.062, 0.02, 0.016),
            (x, y - 0.05, z - 0.085, 0.025, 0.02),
            (x, 0.795 + lift, z - 0.088, 0.012, 0.01),
        ]
        shapes.append(Shape(tail, HAIR, hair, 1.0, 0.8, cloth=False))
    elif style == "bun":
        bun = ellipsoid((x, y + 0.062, z - 0.045), 0.028, 0.027, 0.028)
        shapes.append(Shape(bun, HAIR, hair, 1.0, 0.0, cloth=False))
    if style in ("short", "shaved", "curly", "ponytail", "bun"):
        # The hair's lower edge at the nape meets the collar, see ``_trunk``.
        nape: list[Section] = [
            (x, y - 0.01, z - 0.008, _A * 1.02, _B),
            (x, 0.862 + lift, z - 0.012, 0.036, 0.04),
        ]
        shapes.append(Shape(nape, HAIR, hair, 0.9, 0.0, pi, radians(88), cloth=False))
    return shapes


def _hat(who: Identity, centre: Point, thick: float) -> list[Shape]:
    rgb = who.colour("hat")
    x, y, z = centre
    grow = 0.008 + 0.6 * thick
    low = {"cap": 0.42, "beanie": 0.36, "sun hat": 0.42}[who.hat]
    tall = _HALF + grow + (0.012 if who.hat == "beanie" else 0.004)
    dome = ellipsoid((x, y, z - 0.002), _A + grow, tall, _B + grow, low=low)
    dome = [(dome[0][0], dome[0][1] - 0.006, dome[0][2], dome[1][3], dome[1][4]), *dome[1:]]
    shapes = [Shape(dome, HAT, rgb, 1.06, 0.0)]
    edge = dome[0][1]
    if who.hat == "cap":
        visor: list[Section] = [
            (x, edge - 0.004, z + 0.07, 0.036, 0.036),
            (x, edge + 0.009, z + 0.062, 0.038, 0.036),
        ]
        shade: Rgb = (int(rgb[0] * 0.8), int(rgb[1] * 0.8), int(rgb[2] * 0.8))
        shapes.append(Shape(visor, HAT, shade, 1.055, 0.15))
    elif who.hat == "sun hat":
        brim: list[Section] = [
            (x, edge - 0.007, z, 0.096, 0.1),
            (x, edge + 0.007, z, 0.09, 0.094),
        ]
        shapes.append(Shape(brim, HAT, rgb, 1.058, 0.1))
    else:
        band: Rgb = (int(rgb[0] * 0.85), int(rgb[1] * 0.85), int(rgb[2] * 0.85))
        rim: list[Section] = [
            (x, edge - 0.004, z - 0.002, _A + grow + 0.002, _B + grow + 0.002),
            (x, edge + 0.02, z - 0.002, _A + grow + 0.002, _B + grow + 0.002),
        ]
        shapes.append(Shape(rim, HAT, band, 1.061, 0.1))
    return shapes
