"""The README's picture of generated people: ``python -m docs.pictures`` writes docs/mannequins.png.

docs/report.png is a browser's picture of the page that ``reidpipe demo`` ends with.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.labels.pictures import Tile, contact_sheet, legend, overlay, save_picture
from pipeline.labels.sets import LIP
from pipeline.mannequins import draw

PEOPLE = ((65, 0), (66, 1), (68, 2), (71, 3), (74, 0), (77, 1))


def main() -> None:
    """Six of the test people, each beside its exact label map."""
    figures = [draw(0, pid, camera, 0) for pid, camera in PEOPLE]
    tiles = [
        Tile(
            [figure.image, overlay(figure.image, figure.label, LIP)],
            f"person {pid}, camera {c + 1}",
        )
        for figure, (pid, c) in zip(figures, PEOPLE, strict=True)
    ]
    sheet = contact_sheet(
        tiles,
        legend([figure.label for figure in figures], LIP),
        title="mannequins: generated people with exact label maps",
        width=880,
    )
    save_picture(Path(__file__).parent / "mannequins.png", sheet)


if __name__ == "__main__":
    main()
