"""The picture of a search: the query and the images found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.artifacts.atomic import replacing
from pipeline.datasets.withheld import card, withdrawn_names
from pipeline.images.pixels import DamagedImage, decode
from reid_train.figures.ranked_lists import CELL, Match, draw_ranked_list


def draw_matches(picture: Path, query: Path, matches: Sequence[tuple[Path, float]]) -> None:
    """Write the PNG ``picture``: the image ``query``, then (image, similarity) of each match.

    A grey card with its name stands for an image of a withdrawn dataset, and for a match that is
    gone or damaged since its features were computed.
    """
    withdrawn = withdrawn_names()

    def shown(path: Path) -> np.ndarray:
        return card(path.name, CELL) if withdrawn.match(path.name) else decode(path)

    def found(path: Path) -> np.ndarray:
        try:
            return shown(path)
        except DamagedImage:
            return card(path.name, CELL)

    cells = [Match(found(path), similarity) for path, similarity in matches]
    sheet = Image.fromarray(draw_ranked_list(shown(query), cells))
    with replacing(picture) as temporary:
        sheet.save(temporary, "PNG")
