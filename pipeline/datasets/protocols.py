"""Protocols: which rows are queries and gallery, and what counts as the same camera."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from typing import Protocol as Shape

from pipeline.datasets.manifest import Protocol
from pipeline.terminal.errors import ReidpipeError


class Row(Shape):
    """What a protocol reads of an index or layout row."""

    @property
    def split(self) -> str: ...
    @property
    def camid(self) -> int | None: ...
    @property
    def extra(self) -> dict[str, str]: ...


R = TypeVar("R", bound=Row)

# Extra columns that protocols read: an image's place in each trial's order of its identity and
# camera, who drew these orders, and the track that an image is of.
PLACES, DRAWN_BY, TRACK = "draw_places", "drawn_by", "track"


def apply_protocol(
    rows: Sequence[R], protocol: Protocol, *, trial: int = 0
) -> tuple[list[R], list[R]]:
    """The query rows and gallery rows of one trial, in table order.

    Cameras are selected first, then replaced by their groups, so that ranking code needs to know
    nothing but ``protocol.exclude``. Of a gallery of tracks the rows are their images. Raises
    ReidpipeError when the protocol leaves no query or no gallery, or the rows lack its member list.
    """
    if not 0 <= trial < protocol.trials:
        raise ReidpipeError(
            f"found trial {trial}; protocol '{protocol.name}' has 0 to {protocol.trials - 1}"
        )
    query: Iterable[R] = [row for row in rows if row.split == "query"]
    gallery: Iterable[R] = [row for row in rows if row.split == "gallery"]
    if protocol.shots is not None:
        gallery = _drawn(gallery, protocol, trial)
    elif protocol.trials > 1:
        query, gallery = _trial(rows, protocol, trial)
    if protocol.unit == "track":
        gallery = [row for row in gallery if row.extra.get(TRACK)]
    if protocol.list is not None:
        query, gallery = _members(query, protocol.list), _members(gallery, protocol.list)
    chosen_query = _grouped(_cameras(query, protocol.query_cameras), protocol)
    chosen_gallery = _grouped(_cameras(gallery, protocol.gallery_cameras), protocol)
    for name, chosen in (("query", chosen_query), ("gallery", chosen_gallery)):
        if not chosen:
            raise ReidpipeError(
                f"found no {name} image under protocol '{protocol.name}'; expected some with "
                f"{_needs(protocol, name)}; type reidpipe prepare on the whole dataset"
            )
    return chosen_query, chosen_gallery


def exclusion(rows: Iterable[Row], protocol: Protocol, asked: str) -> str:
    """The exclusion rule that holds for rows: ``asked``, or the protocol's rule for images without
    cameras where it asks for its own rule and no row has a camera.
    """
    if protocol.without_cameras is None or asked != protocol.exclude:
        return asked
    known = any(row.camid is not None for row in rows)
    return asked if known else protocol.without_cameras


def _needs(protocol: Protocol, name: str) -> str:
    if protocol.unit == "track" and name == "gallery":
        return "the file that names the images of each track inside the root"
    if protocol.list is not None:
        return f"the list {protocol.list}.txt (inside the root or beside it)"
    cameras = protocol.query_cameras if name == "query" else protocol.gallery_cameras
    return f"camera in {list(cameras)}" if cameras is not None else f"split {name}"


def _trial(rows: Sequence[R], protocol: Protocol, trial: int) -> tuple[list[R], list[R]]:
    test = [row for row in rows if row.split in ("query", "gallery")]
    if not all("gallery_trials" in row.extra for row in test):
        raise ReidpipeError(
            f"found test rows without column gallery_trials; protocol '{protocol.name}' averages "
            f"{protocol.trials} stored draws; type reidpipe prepare again"
        )
    drawn = [str(trial) in row.extra["gallery_trials"].split() for row in test]
    query = [row for row, is_gallery in zip(test, drawn, strict=True) if not is_gallery]
    return query, [row for row, is_gallery in zip(test, drawn, strict=True) if is_gallery]


def _drawn(rows: Iterable[R], protocol: Protocol, trial: int) -> list[R]:
    """The first ``shots`` images of each identity and camera in a trial's order."""
    result = []
    for row in rows:
        places = row.extra.get(PLACES, "").split()
        if trial >= len(places):
            raise ReidpipeError(
                f"found gallery rows without {trial + 1} draws in column {PLACES}; protocol "
                f"'{protocol.name}' averages {protocol.trials}; type reidpipe prepare again"
            )
        if int(places[trial]) < (protocol.shots or 0):
            result.append(row)
    return result


def _members(rows: Iterable[R], name: str) -> list[R]:
    return [row for row in rows if name in row.extra.get("lists", "").split()]


def _cameras(rows: Iterable[R], cameras: tuple[int, ...] | None) -> list[R]:
    return [row for row in rows if cameras is None or row.camid in cameras]


def _grouped(rows: list[R], protocol: Protocol) -> list[R]:
    groups = protocol.camera_groups
    if groups is None:
        return rows
    result: list[Any] = []
    for row in rows:
        if row.camid not in groups:
            raise ReidpipeError(
                f"found camera {row.camid}; protocol '{protocol.name}' groups {sorted(groups)}; "
                "the rows are of another dataset"
            )
        result.append(replace(row, camid=groups[row.camid]))  # type: ignore[type-var]
    return result
