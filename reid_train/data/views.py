"""Whole pictures of any size to a CLIP's input: its test view, and the random view of training.

Both are torchvision's geometry (Resize, CenterCrop, RandomResizedCrop) on PIL's bicubic filter, as
the authors of the prompt learners use them; random numbers come from a generator that is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.images.decoding import Decoding
from pipeline.images.originals import Original
from pipeline.images.pixels import open_image, resize

ASPECT = (3 / 4, 4 / 3)
TRIES = 10


def centre_crop(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Short side resized to the longer of ``size`` (H, W), the middle cut out: uint8 H,W,3."""
    side = max(size)
    width, height = image.size
    if width <= height:
        width, height = side, int(side * height / width)
    else:
        width, height = int(side * width / height), side
    pixels = resize(image, (height, width), "bicubic")
    # Python rounds halves to the even number, as torchvision does here.
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    return pixels[top : top + size[0], left : left + size[1]]


@dataclass(frozen=True)
class RandomView:
    """A random crop of ``crop_area`` of the picture (share, shape 3/4 to 4/3) resized to the input,
    mirrored with probability ``flip``. ``crop_area`` None: the test view, mirrored.
    """

    crop_area: tuple[float, float] | None
    flip: float
    test: str

    def __call__(
        self, image: Image.Image, size: tuple[int, int], generator: np.random.Generator
    ) -> np.ndarray:
        """uint8 H,W,3. How many numbers are drawn depends on the picture's size."""
        if self.crop_area is None:
            pixels = plain_view(image, size, self.test)
        else:
            top, left, height, width = self.box(image.height, image.width, generator)
            part = image.crop((left, top, left + width, top + height))
            pixels = resize(part, size, "bicubic")
        return pixels[:, ::-1] if generator.random() < self.flip else pixels

    def box(
        self, height: int, width: int, generator: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop, as torchvision's RandomResizedCrop draws them."""
        assert self.crop_area is not None
        for _ in range(TRIES):
            area = generator.uniform(*self.crop_area) * height * width
            aspect = math.exp(generator.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top = int(generator.integers(0, height - h, endpoint=True))
                return top, int(generator.integers(0, width - w, endpoint=True)), h, w
        w, h = width, height
        if width / height < ASPECT[0]:
            h = round(width / ASPECT[0])
        elif width / height > ASPECT[1]:
            w = round(height * ASPECT[1])
        return (height - h) // 2, (width - w) // 2, h, w


def plain_view(image: Image.Image, size: tuple[int, int], kind: str) -> np.ndarray:
    """uint8 H,W,3 by ``kind``: ``centre-crop`` or ``whole``."""
    return centre_crop(image, size) if kind == "centre-crop" else resize(image, size, "bicubic")


def read_views(
    files: Sequence[Path | Original],
    size: tuple[int, int],
    kind: str,
    *,
    decoding: Decoding = "as-seen",
    workers: int = 1,
    random: RandomView | None = None,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """The pictures of ``files`` as uint8 N,3,H,W, RGB, decoded (``decoding``) by ``workers``
    threads.

    random: the view of training instead, by numbers of ``generator``, each picture its own stream,
    so that they do not depend on the threads.
    """
    streams = generator.spawn(len(files)) if random and generator else [None] * len(files)

    def one(given: tuple[Path | Original, np.random.Generator | None]) -> np.ndarray:
        path, stream = given
        image = open_image(path, decoding=decoding)
        if random is None or stream is None:
            return plain_view(image, size, kind)
        return random(image, size, stream)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        pixels = np.stack(list(pool.map(one, zip(files, streams, strict=True))))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
