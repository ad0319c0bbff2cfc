"""What a camera does to a picture: colour cast, tone, blur, resolution, noise, compression."""

from __future__ import annotations

import io
from dataclasses import dataclass
from math import radians

import numpy as np
from PIL import Image, ImageFilter


@dataclass(frozen=True, slots=True)
class Camera:
    """Properties of one camera.

    ``gains``: RGB factors; ``gamma``: exponent on 0..1 levels; ``contrast``: factor about the
    middle; ``saturation``: 0 grey .. 1 as is; ``blur``: Gaussian sigma in pixels per 256 rows;
    ``sharpen``: strength of the halos that cameras add at edges, 0 = none; ``noise``: standard
    deviation in levels; ``rows``: height of a person's crop in the camera's own pixels; ``jpeg``:
    quality, or None; ``pitch``: radians looking down; ``fill``: a person's mean height in the crop;
    ``stretch``: horizontal scale; ``scene``: number of its background;
    ``light``: unit vector towards the light (image right, image up, towards the camera).
    """

    gains: tuple[float, float, float]
    gamma: float
    contrast: float
    saturation: float
    blur: float
    sharpen: float
    noise: float
    rows: int
    jpeg: int | None
    pitch: float
    fill: float
    stretch: float
    scene: int
    light: tuple[float, float, float]


def camera(rng: np.random.Generator, scene: int, strength: float = 1.0) -> Camera:
    """A random camera; ``strength`` scales how far it may stray (1 = a surveillance network)."""

    def about(middle: float, spread: float) -> float:
        return middle + strength * float(rng.uniform(-spread, spread))

    warm, tint = about(0.0, 0.13), about(0.0, 0.09)
    exposure = about(1.0, 0.14)
    gains = (exposure * (1 + warm), exposure * (1 + tint), exposure * (1 - warm))
    low = rng.random() < 0.45 * strength
    direction = np.array([rng.uniform(-1, 1), rng.uniform(0.2, 1.0), rng.uniform(0.3, 1.0)])
    direction /= np.linalg.norm(direction)
    return Camera(
        gains=gains,
        gamma=float(np.exp(about(0.05, 0.3))),
        contrast=about(1.02, 0.2),
        saturation=about(0.95, 0.3),
        blur=max(0.0, about(0.7, 0.7)),
        sharpen=max(0.0, about(-0.4, 1.6)),
        noise=max(0.0, about(2.2, 2.2)),
        rows=int(rng.integers(96, 160) if low else rng.integers(160, 257)),
        jpeg=int(rng.integers(45, 93)) if rng.random() < 0.6 else None,
        pitch=radians(max(0.0, about(9.0, 9.0))),
        fill=about(0.925, 0.03),
        stretch=about(1.04, 0.07),
        scene=scene,
        light=(float(direction[0]), float(direction[1]), float(direction[2])),
    )


def expose(rng: np.random.Generator, picture: Image.Image, cam: Camera) -> Image.Image:
    """The picture (RGB, any size) as ``cam`` records it, at the same size."""
    width, height = picture.size
    rows = min(height, cam.rows)
    columns = max(8, round(width * rows / height))
    if rows < height:
        picture = picture.resize((columns, rows), Image.Resampling.BILINEAR)
    sigma = cam.blur * rows / 256 * float(rng.uniform(0.6, 1.5))
    if sigma > 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(sigma))
    if cam.sharpen > 0.05:
        halo = ImageFilter.UnsharpMask(2.2 * rows / 256, round(100 * cam.sharpen), 1)
        picture = picture.filter(halo)
    picture = picture.convert("RGB", _mixing(cam)).point(_tone(cam, float(rng.uniform(0.93, 1.07))))
    if cam.noise > 0.2:
        grain = rng.standard_normal((rows, columns), dtype=np.float32) * (0.75 * cam.noise)
        tint = rng.standard_normal((rows // 2 + 1, columns // 2 + 1, 3), dtype=np.float32)
        tint *= 0.6 * cam.noise
        pixels, noisy = np.asarray(picture), np.empty((rows, columns, 3), np.uint8)
        # Colour by colour: numpy is slow on planes of which the last axis has three.
        for colour in range(3):
            coarse = np.repeat(np.repeat(tint[..., colour], 2, axis=0), 2, axis=1)
            level = pixels[..., colour] + grain
            level += coarse[:rows, :columns]
            level += 0.5
            noisy[..., colour] = np.clip(level, 0, 255, out=level)
        picture = Image.fromarray(noisy)
    if cam.jpeg is not None:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=cam.jpeg)
        picture = Image.open(buffer).convert("RGB")
    if rows < height:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return picture


def _mixing(cam: Camera) -> tuple[float, ...]:
    grey = (0.299, 0.587, 0.114)
    rows: list[float] = []
    for channel in range(3):
        for source in range(3):
            own = cam.saturation if channel == source else 0.0
            rows.append(cam.gains[channel] * ((1 - cam.saturation) * grey[source] + own))
        rows.append(0.0)
    return tuple(rows)


def _tone(cam: Camera, flicker: float) -> list[int]:
    levels = (np.arange(256) / 255) ** cam.gamma
    levels = np.clip((levels - 0.45) * cam.contrast + 0.45, 0, 1) * 255 * flicker
    return np.clip(levels, 0, 255).round().astype(int).tolist() * 3
