"""The warp between an image and a network's input, shared by all parsers, on any device.

Images are scaled and shifted, never turned nor stretched: rows and columns are independent, so
every resampling here is two small operators instead of a gather over the plane. Where an image
lies on the input is for a ``Placement`` to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Size = tuple[int, int]


@dataclass(frozen=True)
class Similarity:
    """Image pixel (x, y) -> input pixel (scale x + left, scale y + top).

    cells: (top, left, height, width), the rectangle of the input that the image fills; its border
    repeats the outermost pixels, and what is around it is padding. None: the image fades into
    black over the pixel around it, as in OpenCV's warp.
    """

    scale: float
    left: float
    top: float
    cells: tuple[int, int, int, int] | None = None

    @classmethod
    def between(cls, image: Size, target: Size) -> Similarity:
        """The published warp of an image (h, w) into a network input (H, W).

        Centres meet; the scale comes from the widths alone: (W-1) / width of the grown box.
        """
        (h, w), (height, width) = image, target
        # A single pixel has a box without extent: it is taken as one pixel wide.
        box = max(w - 1.0, (h - 1.0) * width / height) or 1.0
        scale = (width - 1) / box
        return cls(
            scale,
            (width - 1) / 2 - scale * (w - 1) / 2,
            (height - 1) / 2 - scale * (h - 1) / 2,
        )

    def pad_(self, inputs: Tensor) -> Tensor:
        """N,C,H,W, zeroed in place around ``cells``; unchanged where there are none."""
        if self.cells is not None:
            top, left, height, width = self.cells
            inputs[:, :, :top] = 0
            inputs[:, :, top + height :] = 0
            inputs[:, :, :, :left] = 0
            inputs[:, :, :, left + width :] = 0
        return inputs


class Placement(Protocol):
    """Where images of any size lie on a network's input; ``description`` goes into the cache."""

    @property
    def description(self) -> str: ...

    def similarity(self, image: Size, target: Size) -> Similarity:
        """Of an image (h, w) on an input (H, W)."""
        ...


@dataclass(frozen=True)
class GrownBox:
    """SCHP's: the box (0, 0, w-1, h-1) grows on its shorter side to the input's aspect."""

    description: str = "box (0,0,w-1,h-1) grown to the input's aspect, black padding, bilinear"

    def similarity(self, image: Size, target: Size) -> Similarity:
        return Similarity.between(image, target)


def to_input(images: Tensor, target: Size, similarity: Similarity | None = None) -> Tensor:
    """uint8 N,C,h,w -> float32 N,C,H,W, whole numbers 0..255.

    similarity: by default the published one; outside the image is then black. With ``cells`` the
    outermost pixels are repeated there, for ``Similarity.pad_`` to replace.

    Equal to the bit to OpenCV 5's ``warpAffine`` on uint8: coordinates and bilinear blends are
    fused multiply-adds in float32, columns first, then rounding to even. float64 products of
    float32 numbers are exact, which is how the fused operation is had everywhere.
    """
    found = similarity or Similarity.between((images.shape[2], images.shape[3]), target)
    repeat = found.cells is not None
    columns = _blend(images.double(), 3, target[1], found.scale, found.left, repeat)
    return _blend(columns, 2, target[0], found.scale, found.top, repeat).round_().float()


def _blend(
    images: Tensor, axis: int, cells: int, scale: float, offset: float, repeat: bool
) -> Tensor:
    """Resample one axis at (cell - offset) / scale; beyond the border black or its last pixel."""
    step, start = float(np.float32(1 / scale)), float(np.float32(-offset / scale))
    position = (torch.arange(cells, dtype=torch.float64) * step + start).float()
    if repeat:
        position = position.clamp(0, images.shape[axis] - 1)
    below = position.floor()
    weight = (position - below).double().to(images.device)
    below = below.long().to(images.device)
    shape = [1] * images.ndim
    shape[axis] = cells
    near, far = (_taken(images, axis, index) for index in (below, below + 1))
    return far.sub_(near).mul_(weight.view(shape)).add_(near).float().double()


def _taken(images: Tensor, axis: int, index: Tensor) -> Tensor:
    size = images.shape[axis]
    inside = (index >= 0) & (index < size)
    shape = [1] * images.ndim
    shape[axis] = len(index)
    return images.index_select(axis, index.clamp(0, size - 1)).mul_(inside.view(shape))


def to_grid(
    logits: Tensor,
    target: Size,
    image: Size,
    grid: Size,
    *,
    align_corners: bool = True,
    similarity: Similarity | None = None,
) -> Tensor:
    """Logits N,C,h,w over the network input ``target`` -> N,C over ``grid`` laid on the image.

    The same as resizing the logits to the input (bilinear, ``align_corners``) and warping them
    back (bilinear), without ever holding them at input size: both are linear and separable, so
    their product is one matrix per axis.

    The grid's cells and the image's pixels cover the same area (centres at half-integers), as when
    the image itself is resized to the grid; cells beyond the outermost pixel centres take those.
    """
    found = similarity or Similarity.between(image, target)
    rows, columns = (
        torch.from_numpy(
            _operator(
                grid[axis],
                image[axis],
                (found.top, found.left)[axis],
                found.scale,
                None if found.cells is None else (found.cells[axis], found.cells[2 + axis]),
                target[axis],
                logits.shape[2 + axis],
                align_corners,
            )
        ).to(logits)
        for axis in (0, 1)
    )
    return rows @ (logits @ columns.T)  # N,C,grid


@lru_cache(maxsize=512)
def _operator(
    cells: int,
    pixels: int,
    offset: float,
    scale: float,
    filled: tuple[int, int] | None,
    inputs: int,
    outputs: int,
    align_corners: bool,
) -> np.ndarray:
    """One axis, from ``outputs`` logits over ``inputs`` pixels to ``cells``: (cells, outputs)."""
    centres = (np.arange(cells) + 0.5) * (pixels / cells) - 0.5
    positions = centres.clip(0, pixels - 1) * scale + offset
    if filled is not None:
        # Of an image that shrank, the outermost pixels have their centres in the padding.
        positions = positions.clip(filled[0], filled[0] + filled[1] - 1)
    pixel = np.arange(inputs)
    if align_corners:
        sources = pixel * ((outputs - 1) / max(inputs - 1, 1))
    else:
        sources = ((pixel + 0.5) * (outputs / inputs) - 0.5).clip(0, outputs - 1)
    return (_linear(positions, inputs) @ _linear(sources, outputs)).astype(np.float32)


def _linear(positions: np.ndarray, size: int) -> np.ndarray:
    """Weights (len, size) of linear interpolation at ``positions``; zero beyond the border."""
    return np.maximum(0.0, 1.0 - np.abs(positions[:, None] - np.arange(size)[None]))
