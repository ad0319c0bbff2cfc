"""A query and its best matches in one picture, right and wrong ones told apart."""

from __future__ import annotations

from collections.abc import Sequence
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
BORDER, GAP, CAPTION = 3, 4, 16
CELL = (128, 64)  # H, W of each picture
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


def draw_ranked_list(
    query: np.ndarray, matches: Sequence[Match], *, size: tuple[int, int] = CELL
) -> np.ndarray:
    """Query on the left, then the matches, best first: uint8 (H, W, 3) RGB.

    query: uint8 (h, w, 3) RGB. size: (H, W) in pixels of each picture. Below each match stand a
    sign (+ right, x wrong, - left out) and its similarity; its border has the colour.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = size
    cell = (width + 2 * BORDER, height + 2 * BORDER)
    columns = 1 + len(matches)
    sheet = Image.new(
        "RGB",
        (columns * (cell[0] + GAP) + 2 * GAP, cell[1] + CAPTION),
        BACKGROUND,
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)

    def place(column: int, image: np.ndarray, colour: Colour, caption: str) -> None:
        # The query stands a little apart from its matches.
        left = column * (cell[0] + GAP) + (2 * GAP if column else 0)
        pen.rectangle((left, 0, left + cell[0] - 1, cell[1] - 1), fill=colour)
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        sheet.paste(picture, (left + BORDER, BORDER))
        middle = left + cell[0] // 2
        pen.text((middle, cell[1] + 2), caption, fill=colour, font=font, anchor="ma")

    place(0, query, INK, "query")
    for column, match in enumerate(matches, 1):
        sign, colour = VERDICTS[match.verdict]
        place(column, match.image, colour, f"{sign} {match.similarity:.2f}".strip())
    return np.asarray(sheet)
