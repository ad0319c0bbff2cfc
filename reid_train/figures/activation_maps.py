"""Where a model looks when it calls two images the same person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

CELLS = (8, 4)


@dataclass(frozen=True)
class Explainable:
    """An image, uint8 (H, W, 3) RGB at the model's input size, and how the model reads it:
    images (N, 3, H, W) float in 0..1, RGB -> features (N, D), with the image's own camera and view
    where the model has side information.
    """

    image: np.ndarray
    encode: Callable[[Tensor], Tensor]


def activation_map(encode: Callable[[Tensor], Tensor], image: Tensor, target: Tensor) -> np.ndarray:
    """How much each region of ``image`` adds to its similarity with ``target``: float32 (8, 4).

    encode: as in ``Explainable``. image: (3, H, W). target: (D,)
    feature of the other image. Entry = cosine of the whole image minus cosine with the region
    painted in the image's mean colour; positive where the region speaks for the match.

    Occlusion (Zeiler and Fergus, ECCV 2014, section 2.1) and not Grad-CAM or attention roll-out:
    it asks the same question of convolutional and transformer models and needs nothing of their
    insides. Regions are twice as high and wide as the cells they are centred on.
    """
    import torch

    _, height, width = image.shape
    mean = image.mean(dim=(1, 2), keepdim=True)
    variants = [image]
    for row in range(CELLS[0]):
        for column in range(CELLS[1]):
            top, bottom = _span(row, CELLS[0], height)
            left, right = _span(column, CELLS[1], width)
            painted = image.clone()
            painted[:, top:bottom, left:right] = mean
            variants.append(painted)
    with torch.inference_mode():
        features = encode(torch.stack(variants)).float()
        cosines = torch.nn.functional.cosine_similarity(features, target[None].float())
    return (cosines[0] - cosines[1:]).reshape(CELLS).cpu().numpy().astype(np.float32)


def _span(cell: int, cells: int, length: int) -> tuple[int, int]:
    size = length / cells
    return max(0, round((cell - 0.5) * size)), min(length, round((cell + 1.5) * size))


def explain_pair(first: Explainable, second: Explainable) -> np.ndarray:
    """Two images and, beside each, what in it speaks for the match: uint8 (H, 4 W, 3) RGB."""
    import torch

    sides = (first, second)
    tensors = [torch.from_numpy(side.image.copy()).permute(2, 0, 1).float() / 255 for side in sides]
    with torch.inference_mode():
        features = [
            side.encode(tensor[None])[0] for side, tensor in zip(sides, tensors, strict=True)
        ]
    panels = []
    for side, tensor, other in zip(sides, tensors, reversed(features), strict=True):
        panels += [side.image, tint(side.image, activation_map(side.encode, tensor, other))]
    return np.concatenate(panels, axis=1)


def tint(image: np.ndarray, relevance: np.ndarray, *, opacity: float = 0.6) -> np.ndarray:
    """The image with regions that speak for the match in red: uint8 (H, W, 3) RGB.

    image: uint8 (H, W, 3) RGB. relevance: float (h, w); its greatest value is full strength,
    values of 0 and below leave the image grey.
    """
    from PIL import Image

    height, width = image.shape[:2]
    strongest = max(float(relevance.max()), 1e-12)
    small = Image.fromarray(np.clip(relevance / strongest, 0, 1).astype(np.float32))
    heat: Any = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    heat = np.clip(heat, 0, 1)[..., None] * opacity
    grey = image.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2)
    mixed = grey * (1 - heat) + np.array([230.0, 30.0, 20.0]) * heat
    return np.round(mixed).astype(np.uint8)
