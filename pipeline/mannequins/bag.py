"""What a generated person carries; LIP has no class for bags, so their pixels are Background."""

from __future__ import annotations

from math import radians

from pipeline.mannequins.identities import Identity, Rgb
from pipeline.mannequins.pose import Point, Skeleton
from pipeline.mannequins.shape import BACKGROUND, Section, Shape


def carrying_side(who: Identity) -> int | None:
    """0 left or 1 right: where a handbag or shoulder bag hangs; None without one."""
    if who.bag not in ("handbag", "shoulder bag"):
        return None
    return (who.pid if who.twin_of is None else who.twin_of) % 2


def bag(who: Identity, bones: Skeleton) -> list[Shape]:
    """The bag and its straps, in the pose of the person."""
    if who.bag == "none":
        return []
    rgb, lift = who.colour("bag"), bones.lift
    dark: Rgb = (int(rgb[0] * 0.7), int(rgb[1] * 0.7), int(rgb[2] * 0.7))
    deep = {"slim": 0.0, "average": 0.004, "heavy": 0.018}[who.build]
    deep += 0.012 if who.coat != "none" else 0.0
    if who.bag == "backpack":
        z = bones.lean - 0.112 - deep
        body: list[Section] = [
            (0.0, 0.815 + lift, z + 0.01, 0.05, 0.03),
            (0.0, 0.79 + lift, z, 0.075, 0.046),
            (0.0, 0.63 + lift, z, 0.083, 0.056),
            (0.0, 0.585 + lift, z, 0.078, 0.05),
        ]
        pocket: list[Section] = [
            (0.0, 0.69 + lift, z - 0.012, 0.058, 0.055),
            (0.0, 0.605 + lift, z - 0.012, 0.06, 0.058),
        ]
        shapes = [
            Shape(body, BACKGROUND, rgb, 0.02, 0.25),
            Shape(pocket, BACKGROUND, dark, 0.021, 0.15, centre=radians(180), half=radians(75)),
        ]
        for sign in (-1, 1):
            strap: list[Section] = [
                (sign * 0.06, 0.832 + lift, bones.lean + 0.02, 0.012, 0.01),
                (sign * 0.066, 0.79 + lift, bones.lean + 0.071 + deep, 0.012, 0.01),
                (sign * 0.075, 0.66 + lift, bones.lean + 0.066 + deep, 0.011, 0.01),
            ]
            shapes.append(Shape(strap, BACKGROUND, dark, -0.03, 0.0))
        return shapes
    side = carrying_side(who) or 0
    sign = 1.0 - 2.0 * side
    if who.bag == "handbag":
        x, y, z = bones.arms[side].tip
        x += sign * 0.012
        top = y - 0.05
        handle: list[Section] = [(x, y + 0.02, z, 0.03, 0.036), (x, top - 0.01, z, 0.03, 0.05)]
        body = [
            (x, top, z, 0.026, 0.062),
            (x, top - 0.05, z, 0.036, 0.078),
            (x, top - 0.105, z, 0.034, 0.08),
        ]
        return [
            Shape(_thin(handle, -1), BACKGROUND, dark, 0.03, 0.0),
            Shape(_thin(handle, 1), BACKGROUND, dark, 0.03, 0.0),
            Shape(body, BACKGROUND, rgb, 0.045, 0.2),
        ]
    hip: Point = (sign * (0.128 + deep), 0.5 + lift, -0.005)
    body = [
        (hip[0], hip[1] + 0.055, hip[2], 0.022, 0.078),
        (hip[0], hip[1] + 0.02, hip[2], 0.034, 0.086),
        (hip[0], hip[1] - 0.05, hip[2], 0.034, 0.084),
    ]
    shapes = [Shape(body, BACKGROUND, rgb, 0.075, 0.25)]
    # The strap runs from the other shoulder over chest and back to the bag.
    for face in (-1.0, 1.0):
        out = face * (0.067 + deep)
        strap = [
            (-sign * 0.062, 0.83 + lift, bones.lean + 0.4 * out, 0.009, 0.009),
            (-sign * 0.03, 0.76 + lift, bones.lean + out, 0.009, 0.009),
            (sign * 0.088, 0.57 + lift, 0.75 * out, 0.009, 0.009),
        ]
        shapes.append(Shape(strap[:2], BACKGROUND, dark, -0.03, 0.5))
        shapes.append(Shape(strap[1:], BACKGROUND, dark, -0.03, 0.5))
    return shapes


def _thin(handle: list[Section], sign: int) -> list[Section]:
    return [(x, y, z + sign * 0.7 * b, 0.006, 0.006) for x, y, z, _, b in handle]
