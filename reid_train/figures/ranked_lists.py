"""What a picture of a query's matches shows of each, and how right and wrong are told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

# Green and red differ in brightness too, and each match carries a sign, so that the picture can
# be read without colour vision and in print.
VERDICTS: dict[str, tuple[str, Colour]] = {
    "right": ("+", (22, 140, 60)),
    "wrong": ("x", (200, 30, 40)),
    "left-out": ("-", (150, 150, 150)),
    "unknown": ("", (90, 90, 90)),
}
BACKGROUND: Colour = (255, 255, 255)
INK: Colour = (30, 30, 30)


@dataclass(frozen=True)
class Match:
    """A gallery image as shown: uint8 (h, w, 3) RGB, similarity, and a verdict: ``right``,
    ``wrong``, ``left-out`` (hidden by the exclusion rule) or ``unknown``.
    """

    image: np.ndarray
    similarity: float
    verdict: str = "unknown"
