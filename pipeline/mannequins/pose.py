"""How a generated person stands or walks: joints in three dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import numpy as np

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Arm:
    """Joints of one arm; points as in ``Skeleton``."""

    shoulder: Point
    elbow: Point
    wrist: Point
    tip: Point


@dataclass(frozen=True, slots=True)
class Leg:
    """Joints of one leg; ``heel`` and ``toe`` lie on the sole's axis."""

    hip: Point
    knee: Point
    ankle: Point
    heel: Point
    toe: Point


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Joints of a person of height 1.

    Axes: x to the person's own LEFT, y up (0 = ground), z forward. ``arms`` and ``legs`` are
    (left, right). ``lift`` is how far the trunk moved up or down to keep the lower foot on the
    ground. ``action`` is a word for captions.
    """

    arms: tuple[Arm, Arm]
    legs: tuple[Leg, Leg]
    lift: float
    lean: float
    action: str


THIGH, SHIN, FOOT = 0.235, 0.24, 0.104
UPPER_ARM, FOREARM, HAND = 0.172, 0.143, 0.075
HIP_HEIGHT, SHOULDER_HEIGHT = 0.52, 0.79
SOLE = 0.019


def pose(rng: np.random.Generator, *, shoulder: float, hip: float, carries: int | None) -> Skeleton:
    """A random walking or standing pose.

    ``shoulder`` and ``hip`` are the joints' distances from the middle plane; ``carries`` is the
    side (0 left, 1 right) whose arm hangs straight under a handbag, or None.
    """
    walking = rng.random() < 0.72
    stride = float(rng.uniform(0.15, 0.46) if walking else rng.uniform(0.0, 0.1))
    phase = float(rng.uniform(0, 2 * np.pi))
    lean = float(rng.uniform(-0.01, 0.05)) if walking else float(rng.uniform(-0.01, 0.015))
    spread = float(rng.uniform(0.0, 0.05) if walking else rng.uniform(0.0, 0.12))
    legs = [_leg(side, stride, phase + np.pi * side, hip, spread) for side in (0, 1)]
    lowest = min(min(leg.heel[1], leg.toe[1]) for leg in legs)
    lift = SOLE - lowest  # the sole and not its axis touches the ground
    legs = [_lifted_leg(leg, lift) for leg in legs]
    arms = []
    for side in (0, 1):
        mode = rng.random()
        swing = -0.8 * stride * sin(phase + np.pi * side)
        bend = 0.12 + 0.35 * max(0.0, swing) + float(rng.uniform(0, 0.2))
        out = float(rng.uniform(0.03, 0.17))
        inward = 0.0
        if carries == side:
            swing, bend, out = 0.25 * swing, 0.06, 0.1
        elif mode < 0.1:  # a hand held before the chest: telephone, strap, crossed arm
            swing, bend, inward = float(rng.uniform(-0.1, 0.25)), float(rng.uniform(1.6, 2.4)), 0.5
        elif mode < 0.2:  # a hand in a pocket
            swing, bend, out = -0.25, 0.55, 0.2
        arms.append(_arm(side, swing, bend, out, inward, shoulder, lift, lean))
    return Skeleton(
        arms=(arms[0], arms[1]),
        legs=(legs[0], legs[1]),
        lift=lift,
        lean=lean,
        action="walking" if walking else "standing",
    )


def _leg(side: int, stride: float, phase: float, hip: float, spread: float) -> Leg:
    sign = 1.0 - 2.0 * side
    flexion = stride * sin(phase)
    knee_bend = stride * (0.12 + 1.1 * max(0.0, cos(phase)) ** 2)
    if flexion < 0:
        knee_bend += 0.35 * -flexion
    shin = flexion - knee_bend
    start = (sign * hip, HIP_HEIGHT, 0.0)
    # In walking the feet come closer to the middle line than the hips are.
    out = sign * (spread - 0.1 * hip)
    knee = _moved(start, THIGH, flexion, 0.5 * out)
    ankle = _moved(knee, SHIN, shin, 0.5 * out)
    down = 0.75 * max(0.0, -shin - 0.12)
    toes = (sin(0.14) * sign, -sin(down), cos(down))
    heel = (ankle[0] - 0.035 * toes[0], ankle[1] - 0.026 - 0.02 * toes[1], ankle[2] - 0.014)
    toe = tuple(heel[axis] + FOOT * toes[axis] for axis in range(3))
    return Leg(start, knee, ankle, heel, (toe[0], toe[1], toe[2]))


def _lifted_leg(leg: Leg, lift: float) -> Leg:
    return Leg(*((x, y + lift, z) for x, y, z in (leg.hip, leg.knee, leg.ankle, leg.heel, leg.toe)))


def _arm(
    side: int,
    swing: float,
    bend: float,
    out: float,
    inward: float,
    shoulder: float,
    lift: float,
    lean: float,
) -> Arm:
    sign = 1.0 - 2.0 * side
    start = (sign * shoulder, SHOULDER_HEIGHT + lift, lean)
    elbow = _moved(start, UPPER_ARM, swing, sign * out * UPPER_ARM)
    wrist = _moved(elbow, FOREARM, swing + bend, sign * (0.4 * out - inward) * FOREARM)
    tip = _moved(wrist, HAND, swing + 1.1 * bend, sign * (0.1 - inward) * HAND)
    return Arm(start, elbow, wrist, tip)


def _moved(start: Point, length: float, angle: float, aside: float) -> Point:
    return (start[0] + aside, start[1] - length * cos(angle), start[2] + length * sin(angle))
