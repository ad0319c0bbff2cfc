"""Random changes of training images, and the same changes of their label maps.

First all random numbers of a batch are drawn (``draw``), then applied: enlarging, mirroring and
cropping to the bytes of images and maps alike (``Draws.move``, ``Draws.move_maps``), colour and
erasing to the float images on the device that trains (``colour``, ``erase``). Numbers are drawn for
the whole global batch, so several processes see what one would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.labels.sets import IGNORE
from reid_train.engine.runtime import on_cpu


@dataclass(frozen=True)
class Augmentation:
    """Strengths; the default changes nothing. In the order in which they apply:

    zoom: probability to enlarge the image ``zoom_factor`` times, bilinearly, and take a random
    window of the original size. flip: probability to mirror. pad: black pixels added on every side
    before a random crop of the original size. brightness, contrast, saturation: factors are uniform
    in 1 - s..1 + s. erase: probability to fill a random rectangle of ``erase_area`` (share of the
    image) and ``erase_aspect`` (height / width, log-uniform or, with ``erase_linear``, uniform as
    in Simple-ReID, where tall rectangles are likelier) with ``erase_fill``: ``noise`` (a standard
    normal value per channel and pixel after normalisation, timm's "pixel" mode), ``mean`` (0 there)
    or a value for each channel, also in units of the normalised image.
    """

    zoom: float = 0.0
    zoom_factor: float = 1.125
    flip: float = 0.0
    pad: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.02, 1 / 3)
    erase_aspect: tuple[float, float] = (0.3, 1 / 0.3)
    erase_linear: bool = False
    erase_fill: str | tuple[float, float, float] = "noise"

    @property
    def colours(self) -> bool:
        """Whether any colour changes."""
        return max(self.brightness, self.contrast, self.saturation) > 0

    def draw(self, count: int, size: tuple[int, int], generator: np.random.Generator) -> Draws:
        """Numbers for ``count`` images of ``size`` (H, W)."""
        flips = generator.random(count) < self.flip
        offsets = generator.integers(0, 2 * self.pad, (count, 2), endpoint=True) - self.pad
        strengths = np.array([self.brightness, self.contrast, self.saturation])
        factors = 1 + strengths * generator.uniform(-1, 1, (count, 3))
        boxes = np.zeros((count, 5), np.int64)
        for row in np.flatnonzero(generator.random(count) < self.erase):
            boxes[row, :4] = self._box(size, generator)
            boxes[row, 4] = generator.integers(2**62)
        enlarged = (round(size[0] * self.zoom_factor), round(size[1] * self.zoom_factor))
        windows = np.full((count, 2), -1)
        if self.zoom > 0:
            zoomed = generator.random(count) < self.zoom
            margins = np.subtract(enlarged, size)
            windows[zoomed] = generator.integers(0, margins, (count, 2), endpoint=True)[zoomed]
        return Draws(
            flips,
            offsets,
            factors.astype(np.float32),
            boxes,
            self.erase_fill,
            windows if self.zoom > 0 else None,
            enlarged,
        )

    def _box(self, size: tuple[int, int], generator: np.random.Generator) -> tuple[int, ...]:
        # timm's RandomErasing: ten attempts to find a rectangle that fits, else none.
        height, width = size
        (least, most), (wide, tall) = self.erase_area, self.erase_aspect
        for _ in range(10):
            area = generator.uniform(least, most) * height * width
            if self.erase_linear:
                aspect = generator.uniform(wide, tall)
            else:
                aspect = math.exp(generator.uniform(math.log(wide), math.log(tall)))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < h < height and 0 < w < width:
                top = int(generator.integers(0, height - h, endpoint=True))
                left = int(generator.integers(0, width - w, endpoint=True))
                return top, left, h, w
        return 0, 0, 0, 0


@dataclass(frozen=True)
class Draws:
    """Drawn numbers of N images. flips: bool N. offsets: int N,2, first row and column of the crop,
    negative outside. factors: float32 N,3 (brightness, contrast, saturation). boxes: int64 N,5
    (top, left, height, width, seed of the noise), height 0 for none. fill: of the boxes. windows:
    int N,2, first row and column of the window in the image of size ``enlarged``, -1 where it is
    not enlarged; None when no image is.
    """

    flips: np.ndarray
    offsets: np.ndarray
    factors: np.ndarray
    boxes: np.ndarray
    fill: str | tuple[float, float, float]
    windows: np.ndarray | None = None
    enlarged: tuple[int, int] = (0, 0)

    def of(self, rows: slice) -> Draws:
        """The numbers of some of the images."""
        return replace(
            self,
            flips=self.flips[rows],
            offsets=self.offsets[rows],
            factors=self.factors[rows],
            boxes=self.boxes[rows],
            windows=None if self.windows is None else self.windows[rows],
        )

    def move(
        self,
        images: np.ndarray,
        places: Sequence[int] | np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Enlarge, mirror and crop uint8 N,H,W,3; what comes from outside the image is black.

        places: rows of ``images``, which may be a memory map of all there are; without them N are
        given. out: where the result goes, of the same shape, in any order of memory.
        """
        return self._moved(images, places, out, self._resampled, _reversed, 0)

    def move_maps(
        self,
        labels: np.ndarray,
        confidence: np.ndarray,
        mirrored: Callable,
        places: Sequence[int] | np.ndarray | None = None,
        out: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same for label maps u1 N,H,W and their confidence N,H,W of any type, erased pixels
        included.

        ``mirrored(labels)`` mirrors and exchanges left and right (``LabelSet.mirrored``). Pixels
        from outside and erased ones get label ``IGNORE`` and confidence 0. Enlarged maps take the
        nearest pixel.
        """
        first, second = out if out is not None else (None, None)
        labels = self._moved(labels, places, first, self._nearest, mirrored, IGNORE)
        confidence = self._moved(confidence, places, second, self._nearest, _reversed, 0)
        for row, (top, left, h, w, _) in enumerate(self.boxes.tolist()):
            labels[row, top : top + h, left : left + w] = IGNORE
            confidence[row, top : top + h, left : left + w] = 0
        return labels, confidence

    @property
    def filled(self) -> int:
        """Rows of ``filling``: erased pixels, or 1 of a constant fill."""
        return int((self.boxes[:, 2] * self.boxes[:, 3]).sum()) if self.fill == "noise" else 1

    def filling(self, out: np.ndarray | None = None) -> np.ndarray:
        """What erased pixels are filled with, in units of the normalised image: float32 M,3, box
        after box and row after row in it; of a constant fill 1,3. out: where it goes.
        """
        values = np.empty((self.filled, 3), np.float32) if out is None else out
        if self.fill != "noise":
            values[:] = 0 if self.fill == "mean" else self.fill
            return values
        end = 0
        for _, _, h, w, seed in self.boxes.tolist():
            if h:
                start, end = end, end + h * w
                generator = np.random.default_rng(seed)
                generator.standard_normal(out=values[start:end], dtype=np.float32)
        return values

    def _moved(
        self,
        batch: np.ndarray,
        places: Sequence[int] | np.ndarray | None,
        out: np.ndarray | None,
        window: Callable,
        mirrored: Callable,
        fill: int,
    ) -> np.ndarray:
        """Image by image in one pass: a batch does not stay in a processor's cache."""
        count = len(self.flips)
        if out is None:
            out = np.empty((count, *batch.shape[1:]), batch.dtype)
        batch = np.asarray(batch)  # a view of a memory map is made ten times as slowly
        offsets, flips = self.offsets.tolist(), self.flips.tolist()
        windows = [(-1, -1)] * count if self.windows is None else self.windows.tolist()
        for row, place in enumerate(range(count) if places is None else places):
            image = batch[place]
            if windows[row][0] >= 0:
                image = window(image, *windows[row])
            _shift(mirrored(image) if flips[row] else image, offsets[row], out[row], fill)
        return out

    def _resampled(self, image: np.ndarray, top: int, left: int) -> np.ndarray:
        height, width = image.shape[:2]
        size = (self.enlarged[1], self.enlarged[0])
        large = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        return np.asarray(large)[top : top + height, left : left + width]

    def _nearest(self, plane: np.ndarray, top: int, left: int) -> np.ndarray:
        height, width = plane.shape
        rows = ((np.arange(height) + top + 0.5) * height / self.enlarged[0]).astype(int)
        columns = ((np.arange(width) + left + 0.5) * width / self.enlarged[1]).astype(int)
        return plane[rows[:, None], columns]


def _reversed(image: np.ndarray) -> np.ndarray:
    return image[:, ::-1]


def _shift(image: np.ndarray, offset: Sequence[int], out: np.ndarray, fill: int) -> None:
    """Write the window of ``image`` that begins at ``offset`` into ``out``, ``fill`` around it."""
    (y, x), (height, width) = offset, image.shape[:2]
    if abs(y) >= height or abs(x) >= width:
        out[:] = fill
        return
    y0, y1, x0, x1 = max(y, 0), min(y + height, height), max(x, 0), min(x + width, width)
    if y:
        out[y1 - y :] = fill
        out[: y0 - y] = fill
    if x:
        out[y0 - y : y1 - y, x1 - x :] = fill
        out[y0 - y : y1 - y, : x0 - x] = fill
    inside, seen = out[y0 - y : y1 - y, x0 - x : x1 - x], image[y0:y1, x0:x1]
    if image.ndim == 3 and (image.strides[1] < 0 or out.strides[2] != 1):
        # numpy would copy such pixels three bytes at a time; of a channel it copies whole rows.
        for channel in range(image.shape[2]):
            inside[..., channel] = seen[..., channel]
    else:
        inside[:] = seen


# Weights of ITU-R 601 luma, as PIL converts RGB to L.
_LUMA = (0.299, 0.587, 0.114)


def colour(images: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast, saturation of images N,3,H,W in 0..1 by ``factors`` N,3.

    Each blends with black, with the image's mean grey, with its own grey, and clamps to 0..1, as
    torchvision's ColorJitter does; that one also shuffles the order.
    """
    weights = torch.tensor(_LUMA, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    brightness, contrast, saturation = factors.view(-1, 3, 1, 1, 1).unbind(1)
    images = (images * brightness).clamp(0, 1)
    grey = (images * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    images = (grey + (images - grey) * contrast).clamp(0, 1)
    grey = (images * weights).sum(1, keepdim=True)
    return (grey + (images - grey) * saturation).clamp(0, 1)


def erase(images: Tensor, boxes: Tensor, filling: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images N,3,H,W in 0..1 with what is in ``boxes`` replaced, in place.

    boxes: int64 N,4 (top, left, height, width). filling: float M,3 or 1,3 (``Draws.filling``).
    mean, std: 1,3,1,1, the constants the model normalises by. Noise leaves 0..1: it is a standard
    normal value after normalisation.
    """
    values = mean.view(1, 3) + std.view(1, 3) * filling
    if not on_cpu(images.device):
        return erase_at_once(images, boxes, values)
    end = 0
    for image, (top, left, h, w) in zip(images, boxes.tolist(), strict=True):
        if h:
            start, end = end, end + h * w
            inside = values if len(values) == 1 else values[start:end]
            box = inside.expand(h * w, 3).view(h, w, 3).permute(2, 0, 1)
            image[:, top : top + h, left : left + w] = box
    return images


def erase_at_once(images: Tensor, boxes: Tensor, values: Tensor) -> Tensor:
    """``erase`` with values that are those of the images, in a few calls however many boxes there
    are, and without asking a GPU what is in them, which waits for all it has to do.
    """
    count, _, height, width = images.shape
    top, left, h, w = boxes.unbind(1)
    if len(values) == 1:
        y = torch.arange(height, device=images.device)[None, :, None] - top[:, None, None]
        x = torch.arange(width, device=images.device)[None, None, :] - left[:, None, None]
        rows, columns = (y >= 0) & (y < h[:, None, None]), (x >= 0) & (x < w[:, None, None])
        return images.copy_(torch.where((rows & columns)[:, None], values.view(1, 3, 1, 1), images))
    areas = h * w
    number = torch.arange(count, device=images.device)
    image = torch.repeat_interleave(number, areas, output_size=len(values))
    place = torch.arange(len(values), device=images.device) - (areas.cumsum(0) - areas)[image]
    y, x = top[image] + place // w[image], left[image] + place % w[image]
    # Advanced indices on both sides of a slice put their dimension first: M,3.
    images[image, :, y, x] = values
    return images
