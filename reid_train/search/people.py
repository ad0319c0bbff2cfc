"""Who is on an image: identities and cameras of images, from a table, names or folders."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.artifacts.runs import place_name
from pipeline.datasets.index import ImageRow
from pipeline.datasets.layouts.own import other_files, read_own
from pipeline.datasets.layouts.own.words import whole
from pipeline.datasets.layouts.rows import LayoutResult, LayoutRow
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.image_files import images_below

TABLES = (".csv", ".tsv")


class Below(Mapping[str, Path]):
    """name -> file in a folder; a path is made when it is asked for, since one of ten million takes
    more memory than its name.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder, self._names = Path(folder), dict.fromkeys(names)

    def __getitem__(self, name: str) -> Path:
        if name not in self._names:
            raise KeyError(name)
        return Path(self._folder, name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Images:
    """Image files of one place.

    folder: what names are relative to. paths: name -> file, in the order of the names. people: name
    -> what the person is called, cameras: name -> what the camera is called, where known. notes:
    what a person should be told about them. called: what a gallery of them is called where nobody
    says; two choices of images of one folder differ in it. known: False where nothing is to be said
    of people and cameras, not even what was said before.
    """

    folder: Path
    paths: Mapping[str, Path]
    people: dict[str, str] = field(default_factory=dict)
    cameras: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    called: str = ""
    known: bool = True

    def __len__(self) -> int:
        return len(self.paths)


def images_at(place: Path, *, rule: str | None = None, known: bool = True) -> Images:
    """The images of a folder (at any depth), of a CSV table, or one image file.

    Identities are those of a table's columns path, pid, camid, of ``rule`` on file names, or the
    names of folders that hold all images (known=False: of none). Raises ReidpipeError where there
    is no image, and for a table or rule that cannot be read.
    """
    if place.is_file():
        called = f"{place.parent.resolve().name}-{place.name}"
        if place.suffix.lower() in TABLES:
            return replace(_of_table(place), called=called)
        found = _layout(place.parent, rule, told=True) if rule else None
        return replace(_with_people(place.parent, {place.name: place}, found), called=called)
    paths = Below(place, (path.relative_to(place).as_posix() for path in images_below(place)))
    nobody = Images(place, paths, notes=tuple(other_files(place)), called=place.resolve().name)
    if not known:
        return nobody
    found = _layout(place, rule, told=rule is not None)
    images = _with_people(place, paths, found)
    if rule is None and len(images.people) < len(paths):
        return nobody
    lacking = [name for name in paths if name not in images.people]
    notes = nobody.notes
    if lacking:
        notes = (*notes, f"{len(lacking)} images without an identity, such as {lacking[0]}")
    return replace(nobody, people=images.people, cameras=images.cameras, notes=notes)


def images_of_rows(
    root: Path, rows: Sequence[ImageRow], *, split: str, dataset: str, or_all: bool = True
) -> Images:
    """The images of one split of a prepared dataset, of all where it has no such split. Raises
    ReidpipeError there unless ``or_all``.
    """
    chosen = [row for row in rows if row.split == split]
    if not chosen and not or_all:
        there = sorted({row.split for row in rows})
        raise ReidpipeError(
            f"found no split {split} in {dataset}; expected {' or '.join(there)}; type --split "
            f"{there[0]}"
        )
    chosen = chosen or list(rows)
    which = split if chosen[0].split == split and len(chosen) < len(rows) else "all"
    note = f"{dataset}: {which} images, {len(chosen)} of {len(rows)}"
    called = f"{place_name(dataset)}-{which}"
    return replace(_of_rows(root, chosen, (note,), {}), called=called)


def _of_table(table: Path) -> Images:
    found = read_own(table, everyone=True)
    left = tuple(f"left out: {count} {reason}" for reason, count in found.dropped.items())
    return _of_rows(found.root, found.rows, left, found.cameras)


def _of_rows(
    root: Path,
    rows: Sequence[ImageRow | LayoutRow],
    notes: tuple[str, ...],
    named: Mapping[int, str],
) -> Images:
    called = _called(rows)
    people, cameras = {}, {}
    ordered = sorted(rows, key=lambda row: row.path)
    for row in ordered:
        if row.pid is not None:
            people[row.path] = called[row.pid]
        if row.camid is not None:
            cameras[row.path] = named.get(row.camid, str(row.camid))
    paths = Below(root, (row.path for row in ordered))
    return Images(Path(root), paths, people, cameras, notes)


def _layout(folder: Path, rule: str | None, *, told: bool) -> LayoutResult | None:
    try:
        return read_own(folder, rule=rule, everyone=True)
    except ReidpipeError:
        # Images of one's own need no order: then nobody is known.
        if told:
            raise
        return None


def _with_people(folder: Path, paths: Mapping[str, Path], found: LayoutResult | None) -> Images:
    if found is None:
        return Images(folder, paths)
    said = _of_rows(found.root, found.rows, (), found.cameras)
    by_file = {_same_form(path): name for name, path in said.paths.items()}
    people, cameras = {}, {}
    for name, path in paths.items():
        other = by_file.get(_same_form(path), "")
        if other in said.people:
            people[name] = said.people[other]
        if other in said.cameras:
            cameras[name] = said.cameras[other]
    return Images(folder, paths, people, cameras)


def _same_form(path: Path) -> str:
    # A reader may have brought names to one Unicode form, or the root to an absolute path.
    return unicodedata.normalize("NFC", str(path.absolute()))


def _called(rows: Sequence[ImageRow | LayoutRow]) -> dict[int, str]:
    """pid -> the column ``identity`` where that names each person once, else the number."""
    names: dict[int, set[str]] = {}
    for row in rows:
        if row.pid is not None:
            names.setdefault(row.pid, set()).add(row.extra.get("identity", ""))
    each = [next(iter(found)) for found in names.values() if len(found) == 1]
    if len(each) == len(names) == len(set(each)) and "" not in each:
        return {pid: next(iter(found)) for pid, found in names.items()}
    return {pid: str(pid) for pid in names}


class Numbers:
    """Names of people, or of cameras, as numbers: a name that is a number is that number, unless
    another has it.

    Names that write one number (1 and 0001) are one person, since a folder of nothing but numbers
    loses their zeros and one with another name keeps them; unless two of the known, or two of those
    that are added together, write it (7 and 007): then each is somebody else.

    numbers: name -> number. names: number -> name where that is not the number itself.
    """

    def __init__(self, used: Iterable[int | None], names: dict[str, str]) -> None:
        self.names = dict(names)
        self.used = {int(number) for number in used if number is not None}
        self.numbers = {self.names.get(str(number), str(number)): number for number in self.used}
        self.highest = max(self.used, default=-1)

    def add(self, names: Iterable[str]) -> None:
        """Give every name a number that has none yet."""
        added = set(names)
        known = _by_value(self.numbers)
        together = _by_value(added)
        for name in sorted(added - self.numbers.keys(), key=_numbers_first):
            value = whole(name)
            same = {self.numbers[other] for other in known.get(value, ())}
            if value is not None and len(same) == len(together[value]) == 1:
                self.numbers[name] = same.pop()
                continue
            number = self.highest + 1 if value is None or value in self.used else value
            self.used.add(number)
            self.highest = max(self.highest, number)
            self.numbers[name] = number
            if str(number) != name:
                self.names[str(number)] = name

    def same(self, first: str, second: str) -> bool:
        """Whether two of the names are one number's."""
        return self.numbers[first] == self.numbers[second]


def _by_value(names: Iterable[str]) -> dict[int | None, list[str]]:
    """The number that names write -> these names."""
    values: dict[int | None, list[str]] = {}
    for name in names:
        if (value := whole(name)) is not None:
            values.setdefault(value, []).append(name)
    return values


def _numbers_first(name: str) -> tuple[bool, str]:
    return whole(name) is None, name


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths are one file."""
    return os.path.realpath(first) == os.path.realpath(second)
