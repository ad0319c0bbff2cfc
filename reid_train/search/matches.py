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
    camera: int | None = None


@dataclass(frozen=True)
class Match:
    """A gallery image at ``rank`` (from 1) of a query. name: in the gallery; image: its file.
    passes: whether it reaches the threshold, None without one. verdict: ``right`` or ``wrong``,
    None where a person is not known. same_camera: None where a camera is not.
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
    without_self: bool,
    through: str | None = None,
) -> list[tuple[Query, list[Match]]]:
    """Each query with its best ``top`` matches, best first.

    files: of the gallery's images. passing: only those that reach the threshold. without_self: the
    query's own file is no match, known by its path or by equal bytes. Who of the gallery a query's
    person is, is what ``Numbers`` says as if the queries were added to it.
    """
    people = Numbers(
        () if gallery.pids is None else gallery.pids.tolist(),
        {} if gallery.about is None else gallery.about.identities,
    )
    people.add(query.person for query in queries if query.person is not None)
    own: list[set[int]] = [set() for _ in queries]
    if without_self:
        own = [files.rows_at(query.path) | files.rows_with(query.path) for query in queries]
    more = max(map(len, own), default=0)
    features = np.stack([query.features for query in queries])
    similarity, rows = gallery.search(features, top=top + more, through=through)
    found = []
    for query, values, places, hidden in zip(queries, similarity, rows, own, strict=True):
        matches: list[Match] = []
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            if place in hidden or len(matches) == top:
                continue
            passes = None if threshold is None else threshold.passed(value)
            if passing and not passes:
                break
            match = _match(query, gallery, people, files, place, value, passes, len(matches) + 1)
            matches.append(match)
        found.append((query, matches))
    return found


def _match(
    query: Query,
    gallery: Gallery,
    people: Numbers,
    files: Files,
    place: int,
    value: float,
    passes: bool | None,
    rank: int,
) -> Match:
    person, camera = seen(gallery, place)
    verdict = None
    if person is not None and query.person is not None:
        same = people.numbers[person] == people.numbers[query.person]
        verdict = "right" if same else "wrong"
    return Match(
        query=str(query.path),
        rank=rank,
        name=gallery.names[place],
        image=str(files.path_of(place)),
        similarity=value,
        passes=passes,
        person=person,
        verdict=verdict,
        same_camera=None if camera is None or query.camera is None else camera == query.camera,
    )


def seen(gallery: Gallery, row: int) -> tuple[str | None, int | None]:
    """Who is on a gallery's image, and by which camera it was taken."""
    pid = None if gallery.pids is None else gallery.pids[row]
    camera = None if gallery.camids is None else gallery.camids[row]
    person = None
    if pid is not None:
        person = str(pid) if gallery.about is None else gallery.about.called(int(pid))
    return person, None if camera is None else int(camera)


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
