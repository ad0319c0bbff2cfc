"""The warp between an image and a network's input, shared by all parsers, on any device.

The image's box (0, 0, w-1, h-1) grows on its shorter side to the input's aspect, so an image is
padded with black, never stretched. No rotation is involved: rows and columns are independent, so
every resampling here is two small operators instead of a gather over the plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Size = tuple[int, int]


@dataclass(frozen=True)
class Similarity:
    """Image pixel (x, y) -> input pixel (scale x + left, scale y + top)."""

    scale: float
    left: float
    top: float

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


def to_input(images: Tensor, target: Size) -> Tensor:
    """uint8 N,C,h,w -> float32 N,C,H,W, whole numbers 0..255, black outside the image.

    Equal to the bit to OpenCV 5's ``warpAffine`` on uint8: coordinates and bilinear blends are
    fused multiply-adds in float32, columns first, then rounding to even. float64 products of
    float32 numbers are exact, which is how the fused operation is had everywhere.
    """
    similarity = Similarity.between((images.shape[2], images.shape[3]), target)
    columns = _blend(images.double(), 3, target[1], similarity.scale, similarity.left)
    return _blend(columns, 2, target[0], similarity.scale, similarity.top).round_().float()


def _blend(images: Tensor, axis: int, cells: int, scale: float, offset: float) -> Tensor:
    """Resample one axis at (cell - offset) / scale, black beyond the border."""
    step, start = float(np.float32(1 / scale)), float(np.float32(-offset / scale))
    position = (torch.arange(cells, dtype=torch.float64) * step + start).float()
    below = position.floor()
    weight = (position - below).double().to(images.device)
    below = below.long().to(images.device)
    shape = [1] * images.ndim
    shape[axis] = cells
    near, far = (_taken(images, axis, index) for index in (below, below + 1))
    return torch.addcmul(near, weight.view(shape), far - near).float().double()


def _taken(images: Tensor, axis: int, index: Tensor) -> Tensor:
    size = images.shape[axis]
    inside = (index >= 0) & (index < size)
    shape = [1] * images.ndim
    shape[axis] = len(index)
    return images.index_select(axis, index.clamp(0, size - 1)) * inside.view(shape)


def to_grid(
    logits: Tensor, target: Size, image: Size, grid: Size, *, align_corners: bool = True
) -> Tensor:
    """Logits N,C,h,w over the network input ``target`` -> N,C over ``grid`` laid on the image.

    The same as resizing the logits to the input (bilinear, ``align_corners``) and warping them
    back (bilinear), without ever holding them at input size: both are linear and separable, so
    their product is one matrix per axis.

    The grid's cells and the image's pixels cover the same area (centres at half-integers), as when
    the image itself is resized to the grid; cells beyond the outermost pixel centres take those.
    """
    similarity = Similarity.between(image, target)
    rows, columns = (
        torch.from_numpy(
            _operator(
                grid[axis],
                image[axis],
                (similarity.top, similarity.left)[axis],
                similarity.scale,
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
    inputs: int,
    outputs: int,
    align_corners: bool,
) -> np.ndarray:
    """One axis, from ``outputs`` logits over ``inputs`` pixels to ``cells``: (cells, outputs)."""
    centres = (np.arange(cells) + 0.5) * (pixels / cells) - 0.5
    positions = centres.clip(0, pixels - 1) * scale + offset
    pixel = np.arange(inputs)
    if align_corners:
        sources = pixel * ((outputs - 1) / max(inputs - 1, 1))
    else:
        sources = ((pixel + 0.5) * (outputs / inputs) - 0.5).clip(0, outputs - 1)
    return (_linear(positions, inputs) @ _linear(sources, outputs)).astype(np.float32)


def _linear(positions: np.ndarray, size: int) -> np.ndarray:
    """Weights (len, size) of linear interpolation at ``positions``; zero beyond the border."""
    return np.maximum(0.0, 1.0 - np.abs(positions[:, None] - np.arange(size)[None]))
