"""Who is on a label map: nobody, hardly anybody, two people; and the one in the middle alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

NO_PERSON, ONE_CLASS = "no_person", "one_class"
LITTLE_PERSON, TWO_BODIES = "little_person", "two_bodies"
# In words that follow a number of images.
FINDINGS = {
    NO_PERSON: "without a person",
    LITTLE_PERSON: "with under 5 % of foreground",
    ONE_CLASS: "with one class only",
    TWO_BODIES: "with two separate bodies",
}
# What the cache says its notes mean; another rule for a finding needs another word here.
MEANING = json.dumps({"rule": 1, "bits": list(FINDINGS)})
LITTLE = 0.05
# A second body has this share of the first one's pixels.
SECOND = 0.25
# A piece belongs to the body above or below which this share of its columns lies.
BELONGS = 0.5
# Two bodies share this part of the rows of the shorter one.
BESIDE = 0.5
# Smaller pieces, as a share of the largest, are no part of any body.
CRUMB = 0.01
_CORNERS = np.ones((3, 3), int)  # pixels that touch at a corner are connected


@dataclass
class Body:
    """Pieces of foreground that stand one above the other. ``pieces``: their numbers; ``pixels``;
    the rows and columns they span, half open; ``column``: the mean of their pixels."""

    pieces: list[int]
    pixels: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    column: float


def findings(label: np.ndarray) -> list[str]:
    """What is odd about a label map u1 (H, W) with background 0, as keys of ``FINDINGS``.

    ``no_person``: background alone. ``little_person``: under 5 % of the pixels are foreground.
    ``one_class``: all of the foreground has one class. ``two_bodies``: as ``standing_bodies``.
    """
    foreground = int(np.count_nonzero(label))
    if not foreground:
        return [NO_PERSON]
    found = [LITTLE_PERSON] if foreground < LITTLE * label.size else []
    if np.count_nonzero(label == label.max()) == foreground:
        found.append(ONE_CLASS)
    if not _surely_one(label, foreground):
        pieces, pixels = _numbered(label)
        alone = pixels.sum() - pixels.max() < SECOND * pixels.max()
        if not alone and len(_bodies(pieces, pixels)) > 1:
            found.append(TWO_BODIES)
    return found


def as_bits(found: list[str]) -> int:
    """Findings as the bits of a note, in the order of ``FINDINGS``."""
    return sum(1 << place for place, finding in enumerate(FINDINGS) if finding in found)


def of_bits(note: int) -> list[str]:
    """The findings of a note; the inverse of ``as_bits``."""
    return [finding for place, finding in enumerate(FINDINGS) if note >> place & 1]


def centred(label: np.ndarray) -> np.ndarray | None:
    """The map with its central body alone; None where there are no two to choose from.

    Of the bodies of ``standing_bodies`` the one stays whose pixels lie nearest to the middle column
    on average; the others become background. Crumbs that belong to no body stay.
    """
    pieces, bodies = standing_bodies(label)
    if len(bodies) < 2:
        return None
    middle = (label.shape[1] - 1) / 2
    central = min(bodies, key=lambda body: (abs(body.column - middle), -body.pixels))
    others = [piece for body in bodies if body is not central for piece in body.pieces]
    return np.where(np.isin(pieces, others), 0, label).astype(label.dtype)


def standing_bodies(label: np.ndarray) -> tuple[np.ndarray, list[Body]]:
    """Numbered pieces of foreground int (H, W), 0 background, and the bodies, largest first.

    Pieces are connected, corners included (scipy.ndimage.label). Legs that a label left out cuts
    from a trunk are no second body: from the largest piece down, a piece belongs to the body that
    covers most of its columns, if that is half of them. The other bodies count where they have at
    least a quarter of the largest one's pixels and stand beside it: their rows and its overlap by
    half of the shorter. People who touch are one piece, and one body.
    """
    pieces, pixels = _numbered(label)
    return pieces, _bodies(pieces, pixels)


def _numbered(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected pieces of foreground int32 (H, W), 0 background, and the pixels of each."""
    from scipy import ndimage

    pieces = np.empty(label.shape, np.int32)
    ndimage.label(label != 0, structure=_CORNERS, output=pieces)
    return pieces, np.bincount(pieces.ravel(), minlength=2)[1:]


def _bodies(pieces: np.ndarray, pixels: np.ndarray) -> list[Body]:
    """Numbered pieces put together, largest body first."""
    from scipy import ndimage

    boxes = ndimage.find_objects(pieces)
    bodies: list[Body] = []
    for place in np.argsort(-pixels, kind="stable").tolist():
        if not pixels[place] or pixels[place] < CRUMB * pixels.max():
            break
        body = _body(pieces, place + 1, int(pixels[place]), boxes[place])
        host = max(bodies, key=lambda other: _shared(other.columns, body.columns), default=None)
        width = body.columns[1] - body.columns[0]
        if host is not None and _shared(host.columns, body.columns) >= BELONGS * width:
            _join(host, body)
        else:
            bodies.append(body)
    bodies.sort(key=lambda body: -body.pixels)
    return [body for body in bodies if body is bodies[0] or _second(bodies[0], body)]


def _surely_one(label: np.ndarray, foreground: int) -> bool:
    """Whether all the foreground outside of one piece is too little for a second body; False may
    mean either. Blocks of 4 rows and 2 columns that are foreground throughout and touch are one
    piece of the map too: an eighth of the cells to number, where ``standing_bodies`` numbers all.
    """
    from scipy import ndimage

    height, width = label.shape[0] // 4 * 4, label.shape[1] // 2 * 2
    if not height or not width:
        return False
    filled = np.ascontiguousarray(label[:height, :width] != 0)
    rows = filled[::4] & filled[1::4] & filled[2::4] & filled[3::4]
    blocks = rows.view(np.uint16) == 0x0101  # both columns
    if not blocks.any():
        return False
    pieces = np.empty(blocks.shape, np.int32)
    count: Any = ndimage.label(blocks, structure=_CORNERS, output=pieces)
    most = np.count_nonzero(blocks) if count == 1 else np.bincount(pieces.ravel())[1:].max()
    return bool(foreground - 8 * most < SECOND * 8 * most)


def _body(pieces: np.ndarray, number: int, pixels: int, box: tuple[slice, slice]) -> Body:
    rows, columns = ((side.start, side.stop) for side in box)
    across = (pieces[box] == number).sum(0)
    column = columns[0] + float(across @ np.arange(len(across))) / pixels
    return Body([number], pixels, rows, columns, column)


def _join(host: Body, part: Body) -> None:
    total = host.pixels + part.pixels
    host.column = (host.column * host.pixels + part.column * part.pixels) / total
    host.pieces += part.pieces
    host.pixels = total
    host.rows = min(host.rows[0], part.rows[0]), max(host.rows[1], part.rows[1])
    host.columns = min(host.columns[0], part.columns[0]), max(host.columns[1], part.columns[1])


def _second(first: Body, other: Body) -> bool:
    shorter = min(first.rows[1] - first.rows[0], other.rows[1] - other.rows[0])
    beside = _shared(first.rows, other.rows) >= BESIDE * shorter
    return beside and other.pixels >= SECOND * first.pixels


def _shared(one: tuple[int, int], other: tuple[int, int]) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))
