"""The shapes a dressed person is made of, in three dimensions, each with its LIP class."""

from __future__ import annotations

from math import pi, radians

from pipeline.mannequins.bag import bag
from pipeline.mannequins.head import head
from pipeline.mannequins.identities import SKINS, Identity, Rgb
from pipeline.mannequins.pose import Leg, Point, Skeleton
from pipeline.mannequins.shape import (
    COAT,
    DRESS,
    FACE,
    GLOVE,
    JUMPSUITS,
    LEFT_ARM,
    LEFT_LEG,
    LEFT_SHOE,
    PANTS,
    RIGHT_ARM,
    RIGHT_LEG,
    RIGHT_SHOE,
    SCARF,
    SKIRT,
    SOCKS,
    UPPER,
    Section,
    Shape,
)


def shoulder_width(who: Identity) -> float:
    """Distance of the shoulder joint from the middle plane, in body heights."""
    return 0.099 * _girth(who) ** 0.5 * (1.06 - 0.06 * who.hips)


def hip_width(who: Identity) -> float:
    """Distance of the hip joint from the middle plane, in body heights."""
    return 0.046 * _girth(who) ** 0.5 * who.hips


def _girth(who: Identity) -> float:
    return {"slim": 0.9, "average": 1.0, "heavy": 1.2}[who.build]


def dress(who: Identity, bones: Skeleton) -> list[Shape]:
    """All shapes of ``who`` in the pose ``bones``; bags are Background (LIP has no such class)."""
    return [
        *_legs(who, bones),
        *_trunk(who, bones),
        *_arms(who, bones),
        *head(who, bones),
        *bag(who, bones),
    ]


def _limb(start: Point, end: Point, r0: float, r1: float) -> list[Section]:
    return [(*start, r0, r0), (*end, r1, r1)]


def _between(start: Point, end: Point, t: float) -> Point:
    return (
        start[0] + t * (end[0] - start[0]),
        start[1] + t * (end[1] - start[1]),
        start[2] + t * (end[2] - start[2]),
    )


def _legs(who: Identity, bones: Skeleton) -> list[Shape]:
    fat = _girth(who) ** 0.6
    skin = SKINS[who.skin]
    shapes: list[Shape] = []
    for side, leg in enumerate(bones.legs):
        bare = (LEFT_LEG, RIGHT_LEG)[side]
        kind, label = who.lower_type, PANTS
        rgb = skin if kind == "none" else who.colour("lower")
        if who.upper_type == "jumpsuit":
            kind, label, rgb = "trousers", JUMPSUITS, who.colour("upper")
        thigh, knee, ankle = 0.053 * fat, 0.037 * fat, 0.023 * fat
        upper = [
            Shape(_limb(leg.hip, leg.knee, thigh, knee), bare, skin, -3.005, cloth=False),
        ]
        lower = [
            Shape(_limb(leg.knee, leg.ankle, knee * 1.02, ankle), bare, skin, -3.006, cloth=False),
        ]
        if kind == "shorts":
            hem = _between(leg.hip, leg.knee, 0.82)
            sections = _limb(leg.hip, hem, thigh * 1.1, knee * 1.3)
            upper.append(Shape(sections, label, rgb, -2.995, cap=0.3))
        elif kind in ("trousers", "wide trousers", "leggings"):
            loose = {"trousers": 1.14, "wide trousers": 1.32, "leggings": 1.03}[kind]
            hem_r = {"trousers": 1.34, "wide trousers": 2.0, "leggings": 1.08}[kind] * ankle
            knee_r = knee * loose
            long = _limb(leg.hip, leg.knee, thigh * (0.5 + 0.5 * loose), knee_r)
            cuff = _between(leg.knee, leg.ankle, 0.85)
            upper.append(Shape(long, label, rgb, -2.996))
            lower.append(Shape(_limb(leg.knee, cuff, knee_r, hem_r), label, rgb, -2.997))
        lower += _shaft(who, side, leg, ankle, hidden="trousers" in kind)
        shapes += _anchored(upper, leg.hip, leg.knee) + _anchored(lower, leg.knee, leg.ankle)
        shapes += _foot(who, side, leg)
    return shapes


def _anchored(shapes: list[Shape], start: Point, end: Point) -> list[Shape]:
    for shape in shapes:
        shape.anchor = _between(start, end, 0.5)
    return shapes


def _foot(who: Identity, side: int, leg: Leg) -> list[Shape]:
    label = (LEFT_SHOE, RIGHT_SHOE)[side]
    rgb = who.colour("shoes")
    thick = 0.025 if who.shoes_type == "shoes" else 0.028
    shoe: list[Section] = [
        (*_between(leg.heel, leg.toe, 0.05), thick, thick),
        (*_between(leg.heel, leg.toe, 0.5), thick * 1.02, thick),
        (*leg.toe, thick * 0.72, thick),
    ]
    shapes = [Shape(shoe, label, rgb, -3.0, cap=0.8, cloth=False)]
    if who.shoes_type == "sneakers":
        pale: Rgb = (214, 214, 210) if sum(rgb) < 420 else (88, 88, 92)
        sole: list[Section] = [(x, y - 0.6 * thick, z, 0.3 * a, b) for x, y, z, a, b in shoe]
        shapes.append(Shape(sole, label, pale, -2.9995, cap=0.8, cloth=False))
    return shapes


def _shaft(who: Identity, side: int, leg: Leg, ankle: float, *, hidden: bool) -> list[Shape]:
    """What covers the shin from below: socks and boots."""
    shapes: list[Shape] = []
    reach = {"none": 1.0, "short": 0.72, "high": 0.16}[who.socks]
    if reach < 1:
        top, radius = _between(leg.knee, leg.ankle, reach), ankle * (1.12 + 0.5 * (1 - reach))
        low = (leg.ankle[0], leg.ankle[1] - 0.012, leg.ankle[2])
        sections = _limb(top, low, radius, ankle * 1.15)
        shapes.append(Shape(sections, SOCKS, who.colour("socks"), -3.002, cap=0.2))
    if who.shoes_type == "boots":
        top = _between(leg.knee, leg.ankle, 0.85 if hidden else 0.35)
        sections = _limb(top, leg.ankle, ankle * (1.2 if hidden else 1.6), ankle * 1.3)
        layer = -2.9985 if hidden else -2.9955
        label = (LEFT_SHOE, RIGHT_SHOE)[side]
        shapes.append(Shape(sections, label, who.colour("shoes"), layer, cap=0.3, cloth=False))
    return shapes


def _trunk_sections(who: Identity, bones: Skeleton, grow: float, hem: float) -> list[Section]:
    fat, width = _girth(who), shoulder_width(who) / 0.099
    belly = {"slim": 0.9, "average": 1.0, "heavy": 1.36}[who.build]
    hips = who.hips * fat**0.6
    rows = [
        (0.850, 0.043, 0.046),
        (0.838, 0.072 * width, 0.050),
        (0.822, 0.106 * width, 0.058),
        (0.775, 0.114 * width, 0.068),
        (0.725, 0.106 * width, 0.074 * fat**0.5),
        (0.620, 0.088 * fat**0.7, 0.064 * belly),
        (0.560, 0.094 * hips, 0.070 * belly),
        (0.500, 0.100 * hips, 0.074 * fat**0.5),
    ]
    sections: list[Section] = []
    for y, a, b in rows:
        if y < hem:
            break
        forward = bones.lean * min(1.0, max(0.0, (y - 0.5) / 0.3))
        sections.append((0.0, y + bones.lift, forward, a * grow, b * grow))
    last = sections[-1]
    if hem + bones.lift < last[1] - 0.004:
        sections.append((0.0, hem + bones.lift, last[2], last[3], last[4]))
    return sections


def _flare(
    who: Identity, bones: Skeleton, top: float, hem: float, wide: float, grow: float
) -> list[Section]:
    """Sections of a skirt from ``top`` down to ``hem``, wide enough for the stride."""
    hips = 0.098 * who.hips * _girth(who) ** 0.6 * grow
    knees = [leg.knee for leg in bones.legs]
    spread = abs(knees[0][2] - knees[1][2])
    middle = 0.5 * (knees[0][2] + knees[1][2])
    sections: list[Section] = []
    for step in range(4):
        t = step / 3
        y = top + t * (hem - top)
        reach = (0.56 - y) / 0.275  # 0 at the hips, 1 at the knees: how much the legs spread here
        legs = max(0.0, min(1.4, reach))
        a = hips * (0.9 + 0.1 * min(1.0, 3 * t)) + wide * t * t
        b = max(0.076 * grow + wide * t, 0.5 * spread * legs + 0.056 * grow)
        sections.append((0.0, y + bones.lift, middle * legs, a, b))
    return sections


def _trunk(who: Identity, bones: Skeleton) -> list[Shape]:
    dressed = who.upper_type
    label = {"dress": DRESS, "jumpsuit": JUMPSUITS}.get(dressed, UPPER)
    rgb, second = who.colour("upper"), None
    if who.upper_pattern != "plain":
        second = who.colour("upper_second")
    striped = who.upper_pattern not in ("plain", "logo")
    shapes: list[Shape] = []
    if who.lower_type in ("trousers", "wide trousers", "leggings", "shorts"):
        pelvis = _flare(who, bones, 0.6, 0.475, -0.006, 0.95)
        shapes.append(Shape(pelvis, PANTS, who.colour("lower"), -2.5, cap=0.4))
    elif "skirt" in who.lower_type:
        hem, wide = (0.36, 0.035) if who.lower_type == "skirt" else (0.16, 0.045)
        skirt = _flare(who, bones, 0.61, hem, wide, 1.02)
        shapes.append(Shape(skirt, SKIRT, who.colour("lower"), -2.5, cap=0.12))
    loose = {"t-shirt": 1.04, "shirt": 1.05, "sweater": 1.12, "dress": 1.0, "jumpsuit": 1.06}
    hem = {"t-shirt": 0.525, "shirt": 0.52, "sweater": 0.515, "dress": 0.56, "jumpsuit": 0.48}
    if dressed == "dress":
        skirt = _flare(who, bones, 0.6, 0.33, 0.03, 1.0)
        shapes.append(Shape(skirt, DRESS, rgb, -2.4, 0.12, patterned=striped, second=second))
    torso = _trunk_sections(who, bones, loose[dressed], hem[dressed])
    shapes.append(Shape(torso, label, rgb, 0.0, 0.25, patterned=striped, second=second))
    if who.upper_pattern == "logo" and second is not None and who.coat_open != "closed":
        logo = [s for s in torso if 0.66 < s[1] - bones.lift < 0.79]
        shapes.append(Shape(logo, label, second, 0.001, 0.0, half=radians(24)))
    neck: list[Section] = [
        (0.0, 0.835 + bones.lift, bones.lean, 0.036, 0.040),
        (0.0, 0.9 + bones.lift, bones.lean + 0.008, 0.035, 0.038),
    ]
    # The nape lies under collar and hair: Face is what shows from the front and the sides.
    shapes.append(Shape(neck, FACE, SKINS[who.skin], 0.002, 0.0, half=radians(76), cloth=False))
    collar: list[Section] = [
        (0.0, 0.83 + bones.lift, bones.lean - 0.004, 0.048, 0.050),
        (0.0, 0.872 + bones.lift, bones.lean, 0.039, 0.043),
    ]
    shapes.append(Shape(collar, label, rgb, 0.003, 0.0, pi, radians(115)))
    if who.coat != "none":
        shapes += _coat(who, bones, collar)
    if who.scarf != "none":
        shapes += _scarf(who, bones)
    return shapes


def _coat(who: Identity, bones: Skeleton, collar: list[Section]) -> list[Shape]:
    rgb = who.colour("coat")
    inside: Rgb = (int(rgb[0] * 0.55), int(rgb[1] * 0.55), int(rgb[2] * 0.55))
    top = _trunk_sections(who, bones, 1.17, 0.5 if who.coat == "jacket" else 0.56)
    parts = [(top, 0.006, 0.25)]
    shapes: list[Shape] = []
    if who.coat == "long coat":
        tail = _flare(who, bones, 0.6, 0.33, 0.025, 1.16)
        parts.append((tail, 0.0055, 0.1))
        if who.coat_open == "open":
            # Between the front edges the back's lining shows, behind the legs.
            shapes.append(Shape(tail, COAT, inside, -4.0, 0.1))
    for sections, layer, cap in parts:
        if who.coat_open == "closed":
            shapes.append(Shape(sections, COAT, rgb, layer, cap))
            continue
        gap = radians(30)
        for sign in (1, -1):
            centre = sign * (pi + gap) / 2
            shapes.append(
                Shape(sections, COAT, rgb, layer, cap, centre=centre, half=(pi - gap) / 2)
            )
    wide: list[Section] = [(x, y, z, a * 1.12, b * 1.12) for x, y, z, a, b in collar]
    shapes.append(Shape(wide, COAT, rgb, 0.0065, 0.0, pi, radians(140)))
    return shapes


def _scarf(who: Identity, bones: Skeleton) -> list[Shape]:
    rgb = who.colour("scarf")
    ring: list[Section] = [
        (0.0, 0.822 + bones.lift, bones.lean, 0.062, 0.066),
        (0.0, 0.848 + bones.lift, bones.lean + 0.004, 0.058, 0.062),
        (0.0, 0.874 + bones.lift, bones.lean + 0.006, 0.047, 0.05),
    ]
    end: list[Section] = [
        (0.03, 0.84 + bones.lift, bones.lean + 0.072, 0.022, 0.016),
        (0.036, 0.69 + bones.lift, bones.lean + 0.084, 0.024, 0.012),
    ]
    return [Shape(ring, SCARF, rgb, 0.016, 0.4), Shape(end, SCARF, rgb, 0.0, 0.2)]


def _arms(who: Identity, bones: Skeleton) -> list[Shape]:
    fat = _girth(who) ** 0.6
    skin = SKINS[who.skin]
    label = {"dress": DRESS, "jumpsuit": JUMPSUITS}.get(who.upper_type, UPPER)
    rgb = who.colour("upper")
    second = None if who.upper_pattern == "plain" else who.colour("upper_second")
    striped = who.upper_pattern not in ("plain", "logo")
    sleeve = {"t-shirt": 0.62, "dress": 0.5}.get(who.upper_type, 2.0)
    loose = {"sweater": 1.28, "jumpsuit": 1.2, "shirt": 1.18}.get(who.upper_type, 1.2)
    if who.coat != "none":
        label, rgb, second, striped, sleeve = COAT, who.colour("coat"), None, False, 2.0
        loose = 1.3
    shapes: list[Shape] = []
    for side, arm in enumerate(bones.arms):
        bare = (LEFT_ARM, RIGHT_ARM)[side]
        top, elbow, wrist = 0.033 * fat, 0.027 * fat, 0.02 * fat
        if sleeve < 2:
            upper = [
                Shape(_limb(arm.shoulder, arm.elbow, top, elbow), bare, skin, 0.04, cloth=False)
            ]
            lower = [
                Shape(_limb(arm.elbow, arm.wrist, elbow, wrist), bare, skin, 0.041, cloth=False)
            ]
            end = _between(arm.shoulder, arm.elbow, sleeve)
            sections = _limb(arm.shoulder, end, top * 1.1, elbow * 1.4)
            cloth = Shape(sections, label, rgb, 0.042, 0.95, patterned=striped, second=second)
            upper.append(cloth)
        else:
            above = _limb(arm.shoulder, arm.elbow, top * (0.3 + 0.7 * loose), elbow * loose)
            below = _limb(arm.elbow, arm.wrist, elbow * loose, wrist * loose)
            upper = [Shape(above, label, rgb, 0.041, patterned=striped, second=second)]
            lower = [Shape(below, label, rgb, 0.042, 0.9, patterned=striped, second=second)]
        hand: list[Section] = [
            (*_between(arm.wrist, arm.tip, 0.1), wrist * 0.95, wrist),
            (*_between(arm.wrist, arm.tip, 0.5), 0.023, 0.023),
            (*_between(arm.wrist, arm.tip, 0.9), 0.015, 0.015),
        ]
        if who.gloves != "none":
            lower.append(Shape(hand, GLOVE, who.colour("gloves"), 0.043, 0.8))
        else:
            lower.append(Shape(hand, bare, skin, 0.039, 0.8, cloth=False))
        shapes += _anchored(upper, arm.shoulder, arm.elbow)
        shapes += _anchored(lower, arm.elbow, arm.wrist)
    return shapes
