"""Which gallery images are one track: a vehicle that passes one camera once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.datasets.layouts.rows import read_lines
from pipeline.datasets.protocols import TRACK
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import shortened

if TYPE_CHECKING:
    from pipeline.datasets.layouts.files import Reading


def mark_tracks(reading: Reading, names: Sequence[str]) -> None:
    """Column ``track`` of the gallery rows: the number of the line that names the image.

    A line names the images of a track; its first word may be the name of the track itself (VeRi's
    test_track_VeRi.txt has it, its test_track.txt has not). Raises ReidpipeError for images that
    are not there and for a track of two identities or cameras.
    """
    path = next((place for place in map(reading.place, names) if place is not None), None)
    if path is None:
        reading.notes.append(f"no {names[0]}: galleries of tracks cannot be ranked")
        return
    gallery = {
        row.path.rpartition("/")[2]: number
        for number, row in enumerate(reading.rows)
        if row.split == "gallery"
    }
    tracks: dict[int, str] = {}
    absent: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split()
        named = words[1:] if words[0] not in gallery else words
        absent += [word for word in named if word not in gallery]
        chosen = [gallery[word] for word in dict.fromkeys(named) if word in gallery]
        whose = {(reading.rows[row].pid, reading.rows[row].camid) for row in chosen}
        if len(whose) > 1:
            raise ReidpipeError(
                f"{path} line {number}: found images of {len(whose)} identities or cameras; "
                "expected one of each in a track; unpack the archive again"
            )
        for row in chosen:
            tracks.setdefault(row, str(number))
    if absent:
        raise ReidpipeError(
            f"{path.name} names {len(absent)} images that are not in the gallery: "
            f"{shortened(absent)}; expected the whole {reading.manifest.title}; unpack it again"
        )
    reading.rows = [
        replace(row, extra={**row.extra, TRACK: tracks.get(number, "")})
        if row.split == "gallery"
        else row
        for number, row in enumerate(reading.rows)
    ]
    alone = len(gallery) - len(tracks)
    if alone:
        reading.notes.append(f"{alone} gallery images are in no track of {path.name}")
