"""Constants that inputs of networks are normalised with: (value - mean) / std, values in 0..1."""

from __future__ import annotations

Triple = tuple[float, float, float]
# RGB, as every constant here.
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
# As mean and as std: values come to lie in -1..1.
HALF: Triple = (0.5, 0.5, 0.5)


def bgr(rgb: Triple) -> Triple:
    """The same constants for networks whose images have blue first."""
    red, green, blue = rgb
    return blue, green, red
