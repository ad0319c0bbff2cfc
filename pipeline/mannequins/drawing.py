"""One image of a generated person with its exact label map, or a batch of them in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi, radians

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipeline.mannequins.bag import carrying_side
from pipeline.mannequins.body import dress, hip_width, shoulder_width
from pipeline.mannequins.camera import Camera, camera, expose
from pipeline.mannequins.canvas import Canvas
from pipeline.mannequins.identities import Identity, identity
from pipeline.mannequins.pose import Skeleton, pose
from pipeline.mannequins.projection import Projection
from pipeline.mannequins.scene import OCCLUDERS, cloud, occlude, scene, window

VIEWS = (
    "from the front",
    "from the front, turned to the right",
    "from the side, facing right",
    "from behind, turned to the right",
    "from behind",
    "from behind, turned to the left",
    "from the side, facing left",
    "from the front, turned to the left",
)
"""Words for orientation 0..7, 45 degrees apart; right and left are the image's."""

_POOL = 160  # scenes that ``sample`` draws from: few enough to be kept, many enough to vary
_STRANGER = 1_000_000_000  # pids of passers-by and of ``sample``: no dataset reaches them
# Of what is met: below, somebody behind; above these, something before the person, or somebody.
_BEHIND, _BEFORE, _PASSER_BY = 0.12, 0.82, 0.96
_HIDDEN, _TRIES = 0.2, 60  # of the person, where something has to hide it


@dataclass(frozen=True, slots=True)
class Mannequin:
    """A generated image.

    ``image``: uint8 (H, W, 3) RGB. ``label``: uint8 (H, W), LIP classes 0..19, left and right the
    person's own; bags and whatever stands before the person are 0. ``view``: 0..7, see ``VIEWS``.
    """

    image: np.ndarray
    label: np.ndarray
    caption: str
    view: int
    pid: int
    camera: int
    occluder: str


def draw(
    seed: int,
    pid: int,
    camera: int,
    index: int,
    size: tuple[int, int] = (256, 128),
    *,
    view: int | None = None,
    effects: bool = True,
    occluded: bool | None = None,
) -> Mannequin:
    """Image ``index`` of person ``pid`` in ``camera`` (0-based): a pure function of its arguments.

    ``size`` is (H, W). Views follow each other by 135 degrees from a random first one unless
    ``view`` is given. ``effects=False``: the bare colours on grey, without pattern, light, scene,
    occluder or camera; the pose is the same. ``occluded``: whether something hides at least a fifth
    of what is seen of the person; it is then drawn apart from all else: the same image with and
    without it. None: by chance something stands before the person in 18 of 100 images, and may hide
    less, or nothing.
    """
    first = int(np.random.default_rng([seed, pid, camera, 4]).integers(8))
    turned = (first + 3 * index) % 8 if view is None else view
    rng = np.random.default_rng([seed, pid, camera, index, 3])
    return _picture(
        rng,
        identity(seed, pid),
        camera_of(seed, camera),
        view=turned,
        size=size,
        world=seed,
        number=camera,
        effects=effects,
        occluded=occluded,
        apart=None if occluded is None else np.random.default_rng([seed, pid, camera, index, 6]),
    )


def camera_of(seed: int, number: int) -> Camera:
    """Camera ``number`` (0-based) of the world ``seed``; each looks at a scene of its own."""
    return camera(np.random.default_rng([seed, number, 5]), scene=number)


def sample(
    seed: int,
    n: int,
    size: tuple[int, int] = (256, 128),
    *,
    randomise: float = 1.0,
    first: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """``n`` images of ``n`` people, each with a camera of its own, for training a parser.

    Returns (uint8 (n, H, W, 3) RGB, uint8 (n, H, W) LIP classes). Image i is a pure function of
    (seed, first + i), so that processes can share one stream. ``randomise`` scales how far cameras
    stray: 0 = one plain camera, 1 = from sharp to 64 rows upsampled, dark, blurred, stretched.
    """
    images = np.empty((n, *size, 3), dtype=np.uint8)
    labels = np.empty((n, *size), dtype=np.uint8)
    for i in range(n):
        rng = np.random.default_rng([seed, first + i, 7])
        who = identity(seed, _STRANGER + 1 + int(rng.integers(_STRANGER)))
        number = int(rng.integers(_POOL))
        figure = _picture(
            rng,
            who,
            _stray(rng, camera(rng, number, randomise), randomise),
            view=int(rng.integers(8)),
            size=size,
            world=seed,
            number=number,
            effects=True,
        )
        images[i], labels[i] = figure.image, figure.label
    return images, labels


def _stray(rng: np.random.Generator, cam: Camera, strength: float) -> Camera:
    # Crops of 48 x 128 pixels become 1.33 times wider in a 2:1 input: ``stretch`` covers that.
    wide = float(rng.uniform(0.95, 1.6))
    low, dark = rng.random() < 0.5 * strength, float(rng.uniform(-0.6, 0.55))
    return replace(
        cam,
        stretch=1 + strength * (wide - 1),
        rows=int(rng.integers(56, 150)) if low else cam.rows,
        gamma=cam.gamma * float(np.exp(strength * 0.7 * dark)),
        blur=cam.blur + strength * float(rng.exponential(0.7)),
        noise=cam.noise + strength * float(rng.exponential(1.8)),
        fill=cam.fill + strength * float(rng.uniform(-0.05, 0.08)),
        pitch=cam.pitch + strength * float(rng.uniform(0, 0.18)),
    )


def _picture(
    rng: np.random.Generator,
    who: Identity,
    cam: Camera,
    *,
    view: int,
    size: tuple[int, int],
    world: int,
    number: int,
    effects: bool,
    occluded: bool | None = None,
    apart: np.random.Generator | None = None,
) -> Mannequin:
    """apart: draws what stands before the person where ``occluded`` says whether anything does."""
    bones = _posed(rng, who)
    place = _placed(rng, who, cam, view, size)
    canvas = Canvas(size)
    meeting = rng.random()
    occluder = ""
    if effects and meeting < _BEHIND:
        _stranger(rng, world, canvas, place, size, before=False)
    canvas.shapes(dress(who, bones), place)
    if apart is not None:
        if effects and occluded:
            canvas, occluder = _hidden(apart, world, canvas, place, size, met=meeting < _BEHIND)
    elif effects and meeting > _BEFORE:
        occluder = _stand_before(rng, meeting, world, canvas, place, size)
    label = canvas.label()
    where = ""
    if effects:
        pixels, where = scene(world, number)
        image = _lit(rng, who, canvas, place, window(rng, pixels, size, float(rng.uniform(1, 1.7))))
        image = np.asarray(expose(rng, image, cam))
    else:
        flat, cover = canvas.colour(canvas.parts())
        image = (flat + (1 - cover) * 127 + 0.5).astype(np.uint8)
    return Mannequin(
        image=image,
        label=label,
        caption=_image_caption(who, bones, view, where, occluder),
        view=view,
        pid=who.pid,
        camera=number,
        occluder=occluder,
    )


def _stand_before(
    rng: np.random.Generator,
    meeting: float,
    world: int,
    canvas: Canvas,
    place: Projection,
    size: tuple[int, int],
) -> str:
    """What ``meeting`` says, above ``_BEFORE``, painted over the person; its name."""
    if meeting >= _PASSER_BY:
        _stranger(rng, world, canvas, place, size, before=True)
        return "passer-by"
    occluder = OCCLUDERS[int(rng.integers(len(OCCLUDERS)))]
    occlude(rng, canvas, occluder)
    return occluder


def _hidden(
    rng: np.random.Generator,
    world: int,
    canvas: Canvas,
    place: Projection,
    size: tuple[int, int],
    *,
    met: bool,
) -> tuple[Canvas, str]:
    """A canvas with something before the person that hides at least ``_HIDDEN`` of what is seen of
    it, the first of ``_TRIES`` that does, else what hides most; and its name. met: whether somebody
    stands behind, who then is the only other one: a canvas holds no third.
    """
    seen, found, least = np.count_nonzero(canvas.label()), (canvas, ""), np.inf
    highest = _PASSER_BY if met else 1
    for _ in range(_TRIES):
        tried, meeting = canvas.copy(), float(rng.uniform(_BEFORE, highest))
        occluder = _stand_before(rng, meeting, world, tried, place, size)
        left = np.count_nonzero(tried.label())
        if left < least:
            found, least = (tried, occluder), left
        if left <= (1 - _HIDDEN) * seen:
            break
    return found


def _posed(rng: np.random.Generator, who: Identity) -> Skeleton:
    return pose(
        rng,
        shoulder=shoulder_width(who),
        hip=hip_width(who),
        carries=carrying_side(who) if who.bag == "handbag" else None,
    )


def _placed(
    rng: np.random.Generator, who: Identity, cam: Camera, view: int, size: tuple[int, int]
) -> Projection:
    height, width = size
    scale = height * cam.fill * who.stature**0.5 * float(rng.uniform(0.97, 1.03))
    slack = height - 1.02 * scale
    ground = height - slack * float(rng.uniform(0.2, 0.7)) + height * float(rng.normal(0, 0.008))
    aside = width * float(rng.normal(0, 0.035))
    if rng.random() < 0.08:  # a careless detector box: part of the person is cut off
        scale *= float(rng.uniform(1.02, 1.25))
        ground += height * float(rng.uniform(-0.06, 0.2))
    return Projection(
        turn=view * pi / 4 + radians(float(rng.uniform(-10, 10))),
        pitch=cam.pitch,
        scale_x=scale * cam.stretch,
        scale_y=scale,
        centre_x=width / 2 + aside,
        ground_y=ground - 0.012 * scale,
        light=cam.light,
    )


def _stranger(
    rng: np.random.Generator,
    world: int,
    canvas: Canvas,
    place: Projection,
    size: tuple[int, int],
    *,
    before: bool,
) -> None:
    other = identity(world, _STRANGER + 1 + int(rng.integers(_STRANGER)))
    share = float(rng.uniform(0.95, 1.2) if before else rng.uniform(0.6, 0.95))
    side = 1 if rng.random() < 0.5 else -1
    offset = side * size[1] * float(rng.uniform(0.33, 0.6))
    lower = size[0] * (float(rng.uniform(0.02, 0.2)) if before else float(rng.uniform(-0.1, 0.0)))
    elsewhere = replace(
        place,
        turn=float(rng.uniform(0, 2 * pi)),
        scale_x=place.scale_x * share,
        scale_y=place.scale_y * share,
        centre_x=place.centre_x + offset,
        ground_y=place.ground_y + lower,
    )
    canvas.shapes(dress(other, _posed(rng, other)), elsewhere, label=0)


def _lit(
    rng: np.random.Generator,
    who: Identity,
    canvas: Canvas,
    place: Projection,
    behind: Image.Image,
) -> Image.Image:
    height, width = canvas.size
    flat, cover = canvas.colour(canvas.parts(_pattern(who, canvas.size, place)))
    shade = canvas.shade()
    # Overcast light models form weakly, sunlight strongly.
    shade = 1 + float(rng.uniform(0.45, 1.2)) * (shade - 1)
    bumps = cloud(rng, canvas.size, (int(height * rng.uniform(0.04, 0.1)) + 3, width // 8 + 3))
    folds = bumps - np.roll(bumps, (height // 100, width // 50), axis=(0, 1))
    depth, light = float(rng.uniform(0.03, 0.12)), float(rng.uniform(0.85, 1.12))
    shade = light * shade * (1 + canvas.cloth() * (depth * folds))
    ground = Image.new("L", (width // 4 + 1, height // 4 + 1), 255)
    x, y, r = place.centre_x / 4, place.ground_y / 4, place.scale_x / 4
    cast = r * 0.12 * float(rng.uniform(-1, 1))
    ImageDraw.Draw(ground).ellipse(
        (x - 0.17 * r + cast, y - 0.05 * r, x + 0.17 * r + cast, y + 0.035 * r),
        fill=int(rng.integers(90, 210)),
    )
    ground = ground.filter(ImageFilter.BoxBlur(2)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    dark = np.asarray(ground, dtype=np.float32) / 255 * (1 - cover[..., 0])
    ground_lit, lit = np.asarray(behind), np.empty((height, width, 3), np.uint8)
    # Colour by colour: numpy is slow on planes of which the last axis has three.
    for colour in range(3):
        level = flat[..., colour] * shade
        level += ground_lit[..., colour] * dark
        lit[..., colour] = np.clip(level, 0, 255, out=level)
    return Image.fromarray(lit)


def _pattern(who: Identity, size: tuple[int, int], place: Projection) -> np.ndarray | None:
    """bool (2H, 2W): where a garment shows its second colour; it hangs on the body's axes."""
    if who.upper_pattern in ("plain", "logo"):
        return None
    height, width = size
    up = (place.ground_y - np.arange(2 * height) / 2) / place.scale_y
    along = (np.arange(2 * width) / 2 - place.centre_x) / place.scale_x
    period = 0.04 * (1 + who.tones[0] / 30)
    rows, columns = (up / period) % 1, (along / period) % 1
    if who.upper_pattern == "stripes":
        return np.broadcast_to((rows < 0.5)[:, None], (2 * height, 2 * width))
    if who.upper_pattern == "vertical stripes":
        return np.broadcast_to((columns < 0.4)[None], (2 * height, 2 * width))
    if who.upper_pattern == "checks":
        return (rows < 0.4)[:, None] ^ (columns < 0.4)[None]
    return ((rows - 0.5) ** 2)[:, None] + ((columns - 0.5) ** 2)[None] < 0.075


def _image_caption(who: Identity, bones: Skeleton, view: int, where: str, occluder: str) -> str:
    words = f"{who.caption[:-1]}, {bones.action}, seen {VIEWS[view]}"
    if where:
        words += f", before {where}"
    if occluder:
        words += f", partly hidden by a {occluder}"
    return words + "."
