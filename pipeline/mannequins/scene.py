"""Where generated people walk: backgrounds, and things that stand before them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipeline.mannequins.canvas import Canvas
from pipeline.mannequins.identities import COLOURS, Rgb
from pipeline.mannequins.shape import BACKGROUND

SCENE_HEIGHT, SCENE_WIDTH = 352, 288
UPPER = (
    "brick wall",
    "shop front",
    "foliage",
    "plain wall",
    "tiled wall",
    "corridor",
    "parked cars",
)
LOWER = ("pavement", "grass", "fallen leaves", "tiles", "road", "carpet")
OCCLUDERS = ("pole", "box", "bicycle", "bush", "railing")


@lru_cache(maxsize=192)
def scene(seed: int, number: int) -> tuple[np.ndarray, str]:
    """Scene ``number`` of the world ``seed``: (uint8 352 x 288 x 3 RGB, words for captions).

    A camera has one scene; its images show different windows of it.
    """
    rng = np.random.default_rng([seed, number, 11])
    above = UPPER[int(rng.integers(len(UPPER)))]
    below = LOWER[int(rng.integers(len(LOWER)))]
    horizon = int(SCENE_HEIGHT * (0.0, 0.2, 0.35, 0.5, 0.7)[int(rng.integers(5))])
    picture = Image.new("RGB", (SCENE_WIDTH, SCENE_HEIGHT))
    picture.paste(_ground(rng, below))
    if horizon:
        picture.paste(
            _wall(rng, above).crop((0, SCENE_HEIGHT - horizon, SCENE_WIDTH, SCENE_HEIGHT))
        )
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.4)))))
    # Large soft patches of light and shadow, as under trees and between houses.
    light = 1 + float(rng.uniform(0.1, 0.45)) * cloud(rng, pixels.shape[:2], (5, 4))
    lit = np.clip(pixels * light[..., None] * float(rng.uniform(0.7, 1.4)), 0, 255)
    return lit.astype(np.uint8), below if not horizon else f"{above} and {below}"


def cloud(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Smooth float32 noise of ``shape``, standard deviation about 0.6, from ``cells`` samples."""
    coarse = Image.fromarray(rng.standard_normal(cells, dtype=np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _speckled(rng: np.random.Generator, rgb: Rgb, rough: float, cell: int) -> np.ndarray:
    shape = (SCENE_HEIGHT, SCENE_WIDTH)
    fine = cloud(rng, shape, (SCENE_HEIGHT // cell, SCENE_WIDTH // cell))
    coarse = cloud(rng, shape, (SCENE_HEIGHT // 24, SCENE_WIDTH // 24))
    field = np.array(rgb, dtype=np.float32) * (1 + rough * (fine + 0.6 * coarse))[..., None]
    return np.clip(field, 0, 255)


def _near(rng: np.random.Generator, rgb: Rgb, spread: int = 22) -> Rgb:
    shifted = [int(min(250, max(4, level + rng.integers(-spread, spread + 1)))) for level in rgb]
    return (shifted[0], shifted[1], shifted[2])


def _any(rng: np.random.Generator) -> Rgb:
    return _near(rng, list(COLOURS.values())[int(rng.integers(len(COLOURS)))])


def _muted(rgb: Rgb) -> Rgb:
    grey = sum(rgb) // 3
    return (rgb[0] // 2 + grey // 2, rgb[1] // 2 + grey // 2, rgb[2] // 2 + grey // 2)


def _image(field: np.ndarray) -> Image.Image:
    return Image.fromarray(field.astype(np.uint8))


def _ground(rng: np.random.Generator, kind: str) -> Image.Image:
    grey = int(rng.integers(95, 190))
    stone = _near(rng, (grey, grey, grey), 10)
    if kind == "grass":
        return _image(_speckled(rng, _near(rng, (86, 118, 52)), 0.22, 2))
    if kind == "fallen leaves":
        field = _speckled(rng, _near(rng, (98, 84, 66)), 0.2, 2)
        spots = cloud(rng, field.shape[:2], (SCENE_HEIGHT // 4, SCENE_WIDTH // 4)) > 0.5
        field[spots] = 0.5 * field[spots] + 0.5 * np.array(_near(rng, (140, 70, 44)))
        return _image(field)
    if kind == "carpet":
        return _image(_speckled(rng, _muted(_any(rng)), 0.08, 2))
    picture = _image(_speckled(rng, stone, 0.07, 2))
    draw = ImageDraw.Draw(picture)
    line = _near(rng, (grey - 40, grey - 40, grey - 40), 6)
    if kind == "tiles":
        step, slant = int(rng.integers(22, 60)), float(rng.uniform(-0.4, 0.4))
        for x in range(-SCENE_HEIGHT, SCENE_WIDTH + SCENE_HEIGHT, step):
            draw.line((x, 0, x + slant * SCENE_HEIGHT, SCENE_HEIGHT), fill=line)
        for y in range(0, SCENE_HEIGHT, int(step * rng.uniform(0.5, 1))):
            draw.line((0, y, SCENE_WIDTH, y), fill=line)
    elif kind == "pavement":
        vanish, step = SCENE_WIDTH * float(rng.uniform(-0.5, 1.5)), int(rng.integers(36, 90))
        for x in range(-2 * SCENE_WIDTH, 3 * SCENE_WIDTH, step):
            draw.line((vanish, -80, x, SCENE_HEIGHT), fill=line, width=2)
        y = 10.0
        while y < SCENE_HEIGHT:
            draw.line((0, y, SCENE_WIDTH, y), fill=line)
            y = y * 1.35 + 6
    elif kind == "road":
        white = _near(rng, (200, 200, 190), 15)
        slant, step = float(rng.uniform(-60, 60)), int(rng.integers(50, 110))
        for x in range(-60, SCENE_WIDTH + 60, step):
            band = [(x, 0), (x + step * 0.4, 0), (x + step * 0.4 + slant, 400), (x + slant, 400)]
            if rng.random() < 0.6:
                draw.polygon(band, fill=white)
    return picture


def _wall(rng: np.random.Generator, kind: str) -> Image.Image:
    if kind == "foliage":
        field = _speckled(rng, _near(rng, (48, 66, 36)), 0.5, 5)
        return _image(np.clip(field + 30 * (_speckled(rng, (1, 1, 1), 1.0, 3) - 1), 0, 255))
    grey = int(rng.integers(50, 205))
    base = _near(rng, (grey, grey, grey), 14) if rng.random() < 0.8 else _muted(_any(rng))
    picture = _image(_speckled(rng, base, 0.05, 2))
    draw = ImageDraw.Draw(picture)
    darker = _near(rng, (int(base[0] * 0.7), int(base[1] * 0.7), int(base[2] * 0.7)), 8)
    if kind == "brick wall":
        high = int(rng.integers(8, 18))
        for row, y in enumerate(range(0, SCENE_HEIGHT, high)):
            draw.line((0, y, SCENE_WIDTH, y), fill=darker, width=2)
            for x in range((row % 2) * high, SCENE_WIDTH, 2 * high):
                draw.line((x, y, x, y + high), fill=darker, width=2)
    elif kind == "tiled wall":
        step = int(rng.integers(14, 44))
        for at in range(0, SCENE_HEIGHT, step):
            draw.line((0, at, SCENE_WIDTH, at), fill=darker)
            draw.line((at, 0, at, SCENE_HEIGHT), fill=darker)
    elif kind == "corridor":
        for x in range(0, SCENE_WIDTH, int(rng.integers(40, 100))):
            draw.rectangle((x, 60, x + int(rng.integers(8, 40)), SCENE_HEIGHT), fill=_any(rng))
    elif kind == "shop front":
        for x in range(-10, SCENE_WIDTH, int(rng.integers(50, 90))):
            box = (x, int(rng.integers(20, 120)), x + int(rng.integers(30, 70)), SCENE_HEIGHT - 20)
            draw.rectangle(box, fill=_any(rng), outline=darker, width=3)
            draw.rectangle((x, box[1], x + 60, box[1] + 24), fill=_any(rng))
    elif kind == "parked cars":
        for _ in range(4):
            x, y = int(rng.integers(-80, SCENE_WIDTH)), SCENE_HEIGHT - int(rng.integers(60, 150))
            paint = _any(rng)
            draw.rounded_rectangle((x, y, x + 170, y + 56), 14, fill=paint)
            draw.rounded_rectangle((x + 35, y - 34, x + 135, y + 10), 14, fill=(40, 46, 54))
            for wheel in (x + 24, x + 118):
                draw.ellipse((wheel, y + 38, wheel + 32, y + 70), fill=(22, 22, 24))
    return picture


def window(
    rng: np.random.Generator, pixels: np.ndarray, size: tuple[int, int], zoom: float
) -> Image.Image:
    """A random window of a scene at ``size`` (H, W); ``zoom`` >= 1 shows less of it."""
    height, width = size
    tall = min(SCENE_HEIGHT, SCENE_HEIGHT / zoom)
    wide = min(SCENE_WIDTH, tall * max(0.3, width / height))
    left, top = rng.uniform(0, SCENE_WIDTH - wide), rng.uniform(0, SCENE_HEIGHT - tall)
    picture = Image.fromarray(pixels)
    box = (float(left), float(top), float(left + wide), float(top + tall))
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture.resize((width, height), Image.Resampling.BILINEAR, box=box)


def occlude(rng: np.random.Generator, canvas: Canvas, kind: str) -> None:
    """Put one of ``OCCLUDERS`` before the person; its pixels become Background."""
    height, width = canvas.size
    part = canvas.part(BACKGROUND, _any(rng), cloth=False)
    x = float(rng.uniform(0.05, 0.95)) * width
    if kind == "pole":
        half, lean = float(rng.uniform(0.02, 0.06)) * width, float(rng.uniform(-0.05, 0.05)) * width
        for share, shade in ((1.0, 0.75), (0.6, 1.0), (0.25, 1.2)):
            a, b = x - half * share, x + half * share
            canvas.polygon(part, [(a, 0), (b, 0), (b + lean, height), (a + lean, height)], shade)
    elif kind == "box":
        top = height * float(rng.uniform(0.55, 0.85))
        wide = width * float(rng.uniform(0.2, 0.5))
        canvas.polygon(
            part, [(x - wide, top), (x + wide, top), (x + wide, height), (x - wide, height)]
        )
        lid = top - 0.03 * height
        canvas.polygon(
            part,
            [(x - wide, top), (x + wide, top), (x + 0.85 * wide, lid), (x - 0.85 * wide, lid)],
            1.2,
        )
    elif kind == "bicycle":
        r = 0.13 * height
        y = height * float(rng.uniform(0.86, 0.95)) - r * 0.2
        gap = 1.55 * r
        for hub in (x - gap, x + gap):
            canvas.ring(part, (hub - r, y - r, hub + r, y + r), 0.012 * height)
        tops = [(x - 0.5 * gap, y - 1.05 * r), (x + 0.75 * gap, y - 1.1 * r), (x, y)]
        ends = [(x - gap, y), (x + gap, y)]
        for (x0, y0), (x1, y1) in (
            (tops[0], tops[1]), (tops[0], tops[2]), (tops[1], tops[2]),
            (ends[0], tops[0]), (ends[0], tops[2]), (ends[1], tops[1]),
        ):  # fmt: skip
            _bar(canvas, part, x0, y0, x1, y1, 0.006 * height)
    elif kind == "bush":
        for _ in range(14):
            r = height * float(rng.uniform(0.02, 0.06))
            cx, cy = x + width * float(rng.normal(0, 0.2)), height * float(rng.uniform(0.78, 1.0))
            canvas.disc(part, (cx - r, cy - r, cx + r, cy + r), float(rng.uniform(0.6, 1.15)))
    elif kind == "railing":
        top, thick = height * float(rng.uniform(0.5, 0.75)), 0.009 * height
        _bar(canvas, part, 0, top, width, top, thick)
        step = width * float(rng.uniform(0.14, 0.3))
        for number in range(int(width / step) + 2):
            at = number * step - x % step
            _bar(canvas, part, at, top, at, height, 0.6 * thick)
    else:
        raise ValueError(f"occluder {kind!r}; expected one of {OCCLUDERS}")


def _bar(
    canvas: Canvas, part: int, x0: float, y0: float, x1: float, y1: float, half: float
) -> None:
    along = max(1e-6, float(np.hypot(x1 - x0, y1 - y0)))
    dx, dy = half * (y1 - y0) / along, half * (x0 - x1) / along
    canvas.polygon(
        part, [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)]
    )
