"""What a search found: ranked matches of each query, right or wrong where people are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import atomic
from pipeline.artifacts.atomic import sha256_file
from pipeline.datasets.layouts.own.words import whole
from reid_train.evaluation.calibration import Threshold
from reid_train.search.gallery import Gallery
from reid_train.search.people import Numbers, same_file

FIELDS = (
    "query", "rank", "name", "similarity", "passes", "person", "verdict", "same_camera", "image",
)  # fmt: skip


@dataclass(frozen=True)
class Query:
    """An image that is searched for: its file, features float32 (D,), who and where, if known."""

    path: Path
    features: np.ndarray
    person: str | None = None
    camera: str | None = None


@dataclass(frozen=True)
class Match:
    """A gallery image at ``rank`` (from 1) of a query. name: in the gallery; image: its file.
    passes: whether it reaches the threshold, None without one. verdict: ``right`` or ``wrong``,
    None where a person is not known. same_camera: None where a camera is not, or one of the two is
    called by a number and the other by a name.
    """

    query: str
    rank: int
    name: str
    image: str
    similarity: float
    passes: bool | None
    person: str | None
    verdict: str | None
    same_camera: bool | None

    def plain(self) -> dict[str, Any]:
        """As JSON, or as a line of a table."""
        return {name: getattr(self, name) for name in FIELDS}


class Files:
    """Where a gallery's images are, and which of them are a given file.

    names: of the rows. path_of: row -> its file. digests: SHA-256 of each row, None where unknown.
    """

    def __init__(
        self,
        names: Sequence[str],
        path_of: Callable[[int], Path],
        digests: Sequence[str | None] | None = None,
    ) -> None:
        self.names, self.path_of, self.digests = names, path_of, digests

    def rows_at(self, path: Path) -> set[int]:
        """Rows whose file is the one at ``path``."""
        rows = self._by_name.get(path.name, [])
        return {row for row in rows if same_file(self.path_of(row), path)}

    def rows_with(self, path: Path) -> set[int]:
        """Rows whose files have the bytes of the one at ``path``."""
        return set(self._by_digest.get(sha256_file(path), ()))

    def own(self, path: Path) -> set[int]:
        """Rows of the file at ``path``, known by the path or by equal bytes."""
        return self.rows_at(path) | self.rows_with(path)

    def known(self, query: Query, gallery: Gallery) -> Query:
        """The query with the person and camera of its own file's row, where nobody said them and
        it is in the gallery.
        """
        if query.person is not None or (gallery.pids is None and gallery.camids is None):
            return query
        for row in sorted(self.rows_at(query.path)):
            person, camera = seen(gallery, row)
            camera = query.camera if camera is None else camera
            return replace(query, person=person, camera=camera)
        return query

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        return _grouped(name.rpartition("/")[2] for name in self.names)

    @cached_property
    def _by_digest(self) -> dict[str | None, list[int]]:
        if self.digests is not None:
            return _grouped(self.digests)
        files = (self.path_of(row) for row in range(len(self.names)))
        return _grouped(sha256_file(file) if file.is_file() else None for file in files)


def _grouped(values: Iterable[Any]) -> dict[Any, list[int]]:
    rows: dict[Any, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault(value, []).append(row)
    return rows


def find_matches(
    queries: Sequence[Query],
    gallery: Gallery,
    files: Files,
    *,
    top: int,
    threshold: Threshold | None,
    passing: bool,
    hidden: Sequence[set[int]],
    through: str | None = None,
) -> list[tuple[Query, list[Match]]]:
    """Each query with its best ``top`` matches, best first.

    files: of the gallery's images. passing: only those that reach the threshold. hidden: rows that
    are no match of each query. Who of the gallery a query's person is, and which camera is which,
    is what ``Numbers`` says as if the queries came to it.
    """
    numbers = _numbers(gallery)
    numbers[0].add(query.person for query in queries if query.person is not None)
    numbers[1].add(query.camera for query in queries if query.camera is not None)
    more = max(map(len, hidden), default=0)
    features = np.stack([query.features for query in queries])
    similarity, rows = gallery.search(features, top=top + more, through=through)
    found = []
    for query, values, places, left_out in zip(queries, similarity, rows, hidden, strict=True):
        matches: list[Match] = []
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            if place in left_out or len(matches) == top:
                continue
            passes = None if threshold is None else threshold.passed(value)
            if passing and not passes:
                break
            rank = len(matches) + 1
            matches.append(_match(query, gallery, numbers, files, place, value, passes, rank))
        found.append((query, matches))
    return found


def _match(
    query: Query,
    gallery: Gallery,
    numbers: tuple[Numbers, Numbers],
    files: Files,
    place: int,
    value: float,
    passes: bool | None,
    rank: int,
) -> Match:
    people, cameras = numbers
    person, camera = seen(gallery, place)
    verdict = same_camera = None
    if person is not None and query.person is not None:
        verdict = "right" if people.same(person, query.person) else "wrong"
    if camera is not None and query.camera is not None and _are_alike(camera, query.camera):
        same_camera = cameras.same(camera, query.camera)
    return Match(
        query=str(query.path),
        rank=rank,
        name=gallery.names[place],
        image=str(files.path_of(place)),
        similarity=value,
        passes=passes,
        person=person,
        verdict=verdict,
        same_camera=same_camera,
    )


def _are_alike(first: str, second: str) -> bool:
    # Which of cam1 and cam2 somebody numbered 0 is not known.
    return (whole(first) is None) == (whole(second) is None)


def _numbers(gallery: Gallery) -> tuple[Numbers, Numbers]:
    """The people and the cameras of a gallery."""
    about = gallery.about
    columns = (() if ids is None else ids.tolist() for ids in (gallery.pids, gallery.camids))
    called = ({}, {}) if about is None else (about.identities, about.cameras)
    people, cameras = map(Numbers, columns, called)
    return people, cameras


def seen(gallery: Gallery, row: int) -> tuple[str | None, str | None]:
    """What the person on a gallery's image is called, and the camera that took it."""
    pid = None if gallery.pids is None else gallery.pids[row]
    camid = None if gallery.camids is None else gallery.camids[row]
    if gallery.about is None:
        return None if pid is None else str(pid), None if camid is None else str(camid)
    return gallery.about.called(pid), gallery.about.camera(camid)


def write_table(file: Path, found: Sequence[Sequence[Match]]) -> None:
    """Write all matches as CSV, one a line; what is not known is empty."""
    lines = ([_cell(value) for value in match.plain().values()] for match in chain(*found))
    atomic.write_csv(file, chain([FIELDS], lines))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6f}"
    return "" if value is None else str(value)
