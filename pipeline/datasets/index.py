"""The index table: one CSV row per image of a dataset, read and written as a whole."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.artifacts import atomic
from pipeline.artifacts.checked import checked, read_json
from pipeline.artifacts.shapes import Each, wrong
from pipeline.datasets.annotations import LABEL_PATH, resolved, written
from pipeline.datasets.catalogue import defined
from pipeline.datasets.manifest import Manifest
from pipeline.datasets.repeats import may_repeat
from pipeline.datasets.sharing import Shared
from pipeline.images.decoding import Decoding, decoding_of, decoding_params
from pipeline.images.originals import Original
from pipeline.terminal.errors import DamagedFile, ReidpipeError, nearest

SPLITS = ("train", "query", "gallery", "val")
COLUMNS = (
    "key", "path", "split", "pid", "camid", "view", "sequence", "frame",
    "width", "height", "digest",
)  # fmt: skip
TABLE = "index.csv"
ABOUT = "dataset.json"
PLACES = "places.json"


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image in one split.

    ``key`` names the row everywhere (packed pixels, label maps, rankings): the posix ``path``
    relative to the dataset's root, or ``path@split`` where one file serves a second split.
    ``camid`` counts from 0; None means unknown in every optional field. ``width`` and ``height``
    are pixels of the image as decoded, ``digest`` the SHA-256 hex of the file's bytes. ``extra``
    has the columns a dataset adds; after reading, every row has every extra column, empty if
    unknown.
    """

    key: str
    path: str
    split: str
    pid: int | None
    camid: int | None
    view: int | None
    sequence: str
    frame: int | None
    width: int
    height: int
    digest: str
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Index:
    """All rows of one dataset; ``root`` is the absolute folder that row paths are relative to.
    definition: what describes a dataset that is not in the package. decoding: how its images are to
    be opened, everywhere.
    """

    dataset: str
    root: Path
    rows: list[ImageRow]
    definition: dict[str, Any] | None = None
    decoding: Decoding = "as-stored"

    @property
    def manifest(self) -> Manifest | None:
        """What is known about the dataset, if anything is."""
        return defined(self.dataset, self.definition)

    def original(self, row: ImageRow) -> Original:
        """The image of a row, for its decoder: one that changed since is refused."""
        return Original(self.root / row.path, row.digest)

    def split(self, name: str) -> list[ImageRow]:
        """The rows of one split, in table order; an unknown split name raises ReidpipeError."""
        if name not in SPLITS:
            raise ReidpipeError(
                f"found split '{name}'{nearest(name, SPLITS)}; expected one of {', '.join(SPLITS)}"
            )
        return [row for row in self.rows if row.split == name]

    def pids(self, split: str) -> list[int]:
        """Identities of one split in ascending order, so that labels never depend on hashing."""
        return sorted({row.pid for row in self.split(split) if row.pid is not None})


def write_index(folder: Path, index: Index) -> None:
    """Write ``index.csv`` and ``dataset.json`` into ``folder``, each whole or not at all.

    A root or a label map inside ``folder`` is stored relative to it, so that the folder can be
    moved. Raises ReidpipeError for rows that could not be read back (see ``read_index``).
    """
    folder = Path(folder).absolute()
    _validate(index.rows, "the index of " + index.dataset)
    extra = list(dict.fromkeys(name for row in index.rows for name in row.extra))
    reserved = sorted(set(extra) & set(COLUMNS))
    if reserved:
        raise ReidpipeError(f"found extra column '{reserved[0]}'; expected a name not yet in use")
    lines = (_line(row, extra, folder) for row in index.rows)
    atomic.write_csv(folder / TABLE, chain([[*COLUMNS, *extra]], lines))
    root = index.root.absolute()
    inside = root.is_relative_to(folder)
    stored = root.relative_to(folder).as_posix() if inside else root.as_posix()
    about: dict[str, Any] = {"dataset": index.dataset, "root": stored}
    about |= decoding_params(index.decoding)
    if index.definition is not None:
        about["definition"] = index.definition
    atomic.write_json(folder / ABOUT, about)


def _line(row: ImageRow, extra: Sequence[str], folder: Path) -> list[Any]:
    beside = {name: row.extra.get(name, "") for name in extra}
    if LABEL_PATH in beside:
        beside[LABEL_PATH] = written(beside[LABEL_PATH], folder)
    return [*(getattr(row, name) for name in COLUMNS), *beside.values()]


def read_index(folder: Path) -> Index:
    """Read what ``write_index`` (or a person with a spreadsheet) wrote into ``folder``.

    The root is that of ``root_of``. Raises ReidpipeError, naming file and line, for a missing table
    or column, a number that is none, an unknown split, a key that appears twice or a path that
    leaves the root.
    """
    folder = Path(folder).absolute()
    table = folder / TABLE
    for path in (table, folder / ABOUT):
        if not path.is_file():
            raise ReidpipeError(
                f"found no {path.name} in {folder}; expected the folder of a prepared dataset; "
                "type `reidpipe prepare DATASET`"
            )
    about = read_json(folder / ABOUT)
    try:
        rows = _rows(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReidpipeError(
            f"{table}: found no table in UTF-8 ({error}); expected the columns "
            f"{','.join(COLUMNS)}; type `reidpipe cache verify --repair`"
        ) from error
    _validate(rows, str(table))
    return Index(
        about["dataset"], root_of(folder), rows, about.get("definition"), decoding_of(about)
    )


def root_of(folder: Path) -> Path:
    """Where the images of an index are read: the first of ``places_of`` that exists, or of all."""
    places = places_of(folder)
    return next((place for place in places if place.exists()), places[0])


def made_of(folder: Path) -> Path:
    """Where the images lay when the index was made."""
    return Path(os.path.normpath(folder / read_json(folder / ABOUT)["root"]))


def places_of(folder: Path) -> list[Path]:
    """Where the images of an index lie, the place asked for last first: as ``keep_places`` wrote
    them, or the one it was made of, which alone can be inside ``folder``. Raises DamagedFile for a
    list that is none.
    """
    path = folder / PLACES
    if not path.is_file():
        return [made_of(folder)]
    found = atomic.read_json(path)
    if told := wrong(found, {"roots": Each(str)}) or (not found["roots"] and "no root"):
        raise DamagedFile(
            f"found {path} with {told}; expected where the images lie; type rm {path}, and prepare "
            "the dataset again"
        )
    return [Path(root) for root in found["roots"]]


def keep_places(folder: Path, places: Sequence[Path]) -> None:
    """Write down where the images of an index, which lie outside of ``folder``, are today."""
    if list(places) != places_of(folder):
        atomic.write_json(folder / PLACES, {"roots": [str(place) for place in places]})


def _rows(table: Path) -> list[ImageRow]:
    # utf-8-sig: spreadsheets write a byte-order mark before the first column's name.
    with checked(table).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise ReidpipeError(
                f"{table}: found no column '{missing[0]}'{nearest(missing[0], header)}; "
                f"expected the columns {','.join(COLUMNS)}"
            )
        if len(set(header)) < len(header):
            raise ReidpipeError(f"{table}: found a column twice; expected each column name once")
        parse = _Parser(header, table.parent)
        rows = []
        for fields in reader:
            try:
                rows.append(parse(fields))
            except ValueError as error:
                raise ReidpipeError(f"{table} line {reader.line_num}: {error}") from error
        return rows


class _Parser:
    """Fields of a table in ``folder`` with this header -> a row. Raises ValueError that says what
    is wrong.
    """

    def __init__(self, header: list[str], folder: Path) -> None:
        self.folder = folder
        self.label = header.index(LABEL_PATH) if LABEL_PATH in header else None
        self.fields = len(header)
        self.places = [header.index(name) for name in COLUMNS]
        self.extra = [(name, at) for at, name in enumerate(header) if name not in COLUMNS]
        self.shared = Shared()

    def __call__(self, fields: list[str]) -> ImageRow:
        if len(fields) != self.fields:
            raise ValueError(f"found {len(fields)} fields; expected {self.fields}")
        if self.label is not None:
            fields[self.label] = resolved(fields[self.label], self.folder)
        key, path, split, pid, camid, view, sequence, frame, width, height, digest = (
            fields[place] for place in self.places
        )
        same = self.shared.same
        try:
            return ImageRow(
                key=key,
                path=key if path == key else path,
                split=same(split),
                pid=same(int(pid)) if pid else None,
                camid=same(int(camid)) if camid else None,
                view=same(int(view)) if view else None,
                sequence=same(sequence),
                frame=int(frame) if frame else None,
                width=same(int(width)),
                height=same(int(height)),
                digest=digest,
                extra=self.shared.columns(tuple((name, fields[at]) for name, at in self.extra)),
            )
        except ValueError as error:
            raise ValueError(
                f"found {error.args[0].split(': ')[-1]}; expected a whole number "
                "(pid, camid, view, frame may be empty)"
            ) from error


def _validate(rows: Sequence[ImageRow], where: str) -> None:
    candidates = set(may_repeat((row.key for row in rows), len(rows)).tolist())
    seen: set[str] = set()
    for place, row in enumerate(rows):
        if place in candidates:
            if row.key in seen:
                raise ReidpipeError(f"{where}: found key '{row.key}' twice; expected each key once")
            seen.add(row.key)
        if row.split not in SPLITS:
            raise ReidpipeError(
                f"{where}: found split '{row.split}' for '{row.key}'{nearest(row.split, SPLITS)}; "
                f"expected one of {', '.join(SPLITS)}"
            )
        if row.key not in (row.path, f"{row.path}@{row.split}"):
            raise ReidpipeError(
                f"{where}: found key '{row.key}' for path '{row.path}'; "
                f"expected the path, or '{row.path}@{row.split}' for a second split"
            )
        if not row.path or row.path[0] == "/" or ".." in row.path.split("/"):
            raise ReidpipeError(
                f"{where}: found path '{row.path}'; expected a path inside the dataset's root"
            )
        if row.width < 1 or row.height < 1 or (row.camid is not None and row.camid < 0):
            raise ReidpipeError(
                f"{where}: found width {row.width}, height {row.height}, camid {row.camid} for "
                f"'{row.key}'; expected a size of at least 1 and cameras counted from 0"
            )
