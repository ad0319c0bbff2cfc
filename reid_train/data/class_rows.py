"""The rows of an index as images of classes: a classification set's own, those that somebody wrote
beside their images, or an attribute of people.

Labels count from 0 in the index's order of classes; a row's ``path`` here is its key.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.datasets.index import ImageRow, Index, read_index
from pipeline.images.originals import Original
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.printable import shortened
from reid_train.data.own_classes import is_own, own_classes
from reid_train.data.shots import Halves, Row, halve_classes, names_of_classes

PEOPLE = "identities.csv"
CAPTION = "caption"


@dataclass(frozen=True)
class ClassRows:
    """Images of classes by split; ``names[label]`` is the name of a class. notes: what a person
    must know about classes of their own.
    """

    index: Index
    train: list[Row]
    val: list[Row]
    test: list[Row]
    names: list[str]
    notes: tuple[str, ...] = ()

    def labels(self, part: str) -> Sequence[int]:
        """Labels of ``all`` classes, of the ``base`` half or the ``new`` one, of those with
        training images (``seen``) or test images (``tested``): not the same where they are people.
        """
        if part == "all":
            return range(len(self.names))
        if part in ("seen", "tested"):
            rows = self.train if part == "seen" else self.test
            return sorted({row.label for row in rows})
        return getattr(halve_classes(len(self.names)), part)

    def rows_of(self, split: Literal["train", "test"], part: str) -> list[Row]:
        """The images of a split that show the classes of ``part``. Raises ReidpipeError where there
        is none: nothing could be learnt from them, and their accuracy would be no number.
        """
        labels = set(self.labels(part))
        rows = [row for row in getattr(self, split) if row.label in labels]
        if rows:
            return rows
        where = f"of the {part} half of the classes" if part in Halves._fields else ""
        whole = f"{where or 'among the classes'} of '{self.index.dataset}'"
        if where:
            named = shortened([self.names[label] for label in sorted(labels)])
            cure = f"type --split all, or add images of {named}"
        elif split == "train":
            cure = "type reidpipe classify zero-shot, which needs none, or add a split train"
        else:
            cure = f"type reidpipe datasets {self.index.dataset}"
        if split == "train":
            raise ReidpipeError(f"found no training image {whole}; expected some; {cure}")
        raise ReidpipeError(
            f"found no image to test on {whole}; expected FOLDER/test/<class>/<image> beside "
            f"train, or a split of another name; {cure}"
        )

    def files(self, rows: Iterable[Row]) -> list[Original]:
        """The images of these rows."""
        by_key = {row.key: row for row in self.index.rows}
        return [self.index.original(by_key[row.path]) for row in rows]


def read_classes(folder: Path, attribute: str | None = None, wording: str = "{}") -> ClassRows:
    """The classes of the index in ``folder``.

    attribute: a column of ``identities.csv`` (or ``caption``), whose values in alphabetical order
    are the classes of people; the test images are then query and gallery together. Images of people
    without one (``none``, empty) are left out. wording: what stands for a class, ``{}`` its name.
    Classes of a person's own are read as ``own_classes`` says.

    Raises ReidpipeError when the index has no classes or the attribute is unknown.
    """
    index = read_index(folder)
    if attribute is None and is_own(index):
        own = own_classes(index)
        names = names_of_classes(row for rows in (own.train, own.val, own.test) for row in rows)
        return _worded(index, [own.train, own.val, own.test], names, wording, tuple(own.notes))
    if attribute is None:
        classes = {row.key: _own_class(index, row) for row in index.rows}
        tests = ("query",)
    else:
        classes = _classes_of_people(index, folder, attribute)
        tests = ("query", "gallery")

    def rows(*splits: str) -> list[Row]:
        found = [row for row in index.rows if row.split in splits and row.key in classes]
        return [Row(row.key, *classes[row.key]) for row in found]

    split = [rows("train"), rows("val"), rows(*tests)]
    names = names_of_classes(row for part in split for row in part)
    if attribute == CAPTION:
        # A sentence of its own becomes the name in another: "a photo of a {}."
        names = [re.sub("^An? ", "", name).rstrip(".") for name in names]
    return _worded(index, split, names, wording)


def _worded(
    index: Index,
    split: Sequence[Sequence[Row]],
    names: Sequence[str],
    wording: str,
    notes: tuple[str, ...] = (),
) -> ClassRows:
    worded = [wording.replace("{}", name) for name in names]
    named = [[row._replace(classname=worded[row.label]) for row in part] for part in split]
    return ClassRows(index, named[0], named[1], named[2], worded, notes)


def _own_class(index: Index, row: ImageRow) -> tuple[int, str]:
    label, name = row.extra.get("class", ""), row.extra.get("classname", "")
    if not (label.isascii() and label.isdecimal()) or not name:
        raise ReidpipeError(
            f"found image '{row.key}' of {index.dataset} without class and classname; expected a "
            "classification set, or people and one of their attributes; type --dataset "
            "oxford_pets, or --attribute upper_colour"
        )
    return int(label), name


def _classes_of_people(index: Index, folder: Path, attribute: str) -> dict[str, tuple[int, str]]:
    table = Path(folder) / PEOPLE
    if not table.is_file():
        raise ReidpipeError(
            f"found no {PEOPLE} beside the index of {index.dataset}; expected a dataset whose "
            "people have attributes; type --dataset mannequins"
        )
    with table.open(encoding="utf-8", newline="") as file:
        people = list(csv.DictReader(file))
    known = [name for name in people[0] if name != "pid"]
    if attribute not in known:
        raise ReidpipeError(
            f"found attribute '{attribute}'{nearest(attribute, known)}; expected one of "
            f"{', '.join(known)}; type --attribute upper_colour"
        )
    value = {int(who["pid"]): who[attribute] for who in people}
    value = {pid: name for pid, name in value.items() if name not in ("", "none")}
    label = {name: place for place, name in enumerate(sorted(set(value.values())))}
    return {
        row.key: (label[value[row.pid]], value[row.pid]) for row in index.rows if row.pid in value
    }
