"""Classes of one's own: what the columns ``class`` and ``classname`` of an index mean."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field

from pipeline.datasets.index import ImageRow, Index
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import shortened
from reid_train.data.shots import Row

SHARE = 0.2
SEED = 0
# As spreadsheets write them, too: 3.0.
_NUMBER = re.compile(r"([0-9]{1,18})(?:\.0+)?")


@dataclass
class OwnClasses:
    """Images by split, their labels 0 to C-1; notes: what a person must know about them."""

    train: list[Row] = field(default_factory=list)
    val: list[Row] = field(default_factory=list)
    test: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_own(index: Index) -> bool:
    """Whether a dataset is somebody's own, whose classes nobody has checked."""
    return index.manifest is not None and index.manifest.is_own


def own_classes(index: Index) -> OwnClasses:
    """Classes of an index whose columns somebody wrote.

    ``class`` holds numbers, in whose order labels count from 0 whatever the first and the gaps, or
    names, in alphabetical order; ``classname`` holds names. Either will do where it has names. Test
    images are those of the splits query and gallery; where there are none, those of val; where
    there are none either, a fifth of each class of train, drawn with a seed.

    Raises ReidpipeError for an index without classes, an image without one, a class without a name
    or with two, two classes of one name, and a single class.
    """
    labels, names = _classes(index)
    found = OwnClasses()
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in index.rows:
        label = labels[_key(row)]
        rows[row.split].append(Row(row.key, label, names[label]))
    found.train, found.val = rows["train"], rows["val"]
    found.test = rows["query"] + rows["gallery"]
    if not found.test and found.val:
        found.test, found.val = found.val, []
        found.notes.append(f"no test images: tested on the {len(found.test)} of val")
    elif not found.test:
        found.train, found.test = held_out(found.train)
        found.notes.append(
            f"no test images: {len(found.test)} of {len(index.rows)}, {SHARE:.0%} of each class, "
            f"are held out with seed {SEED}"
        )
    _compare(found, names)
    return found


def held_out(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """``SHARE`` of each class apart from the rest, one image at least and never all: (rest, apart),
    a function of the images' names and labels.
    """
    import numpy as np

    members: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        members[row.label].append(row.path)
    generator = np.random.default_rng(SEED)
    apart: set[str] = set()
    for label in sorted(members):
        paths = sorted(members[label])
        count = min(max(int(len(paths) * SHARE + 0.5), 1), len(paths) - 1)
        apart |= {paths[place] for place in generator.permutation(len(paths))[:count]}
    kept = [row for row in rows if row.path not in apart]
    return kept, [row for row in rows if row.path in apart]


def _classes(index: Index) -> tuple[dict[str, int], list[str]]:
    """Label of each key of a class, and the name of each label."""
    keys = {row.key: _key(row) for row in index.rows}
    bare = [row for row, key in keys.items() if not key]
    if len(bare) == len(keys):
        raise ReidpipeError(
            f"found people and no classes in {index.dataset}; expected columns class and classname "
            "in a CSV, or a folder per class; when its folders are classes, type reidpipe classify "
            f"RECIPE --dataset {index.root}"
        )
    if bare:
        raise ReidpipeError(
            f"found {len(bare)} of {len(keys)} images of {index.dataset} without a class, the "
            f"first is {bare[0]}; expected one for each; fill in its class or classname"
        )
    given: dict[str, set[str]] = defaultdict(set)
    for row in index.rows:
        given[_key(row)].add(_name(row))
    numbers = all(_NUMBER.fullmatch(key) for key in given)
    order = sorted(given, key=(lambda key: int(key)) if numbers else None)
    for key, names in given.items():
        if len(names) > 1:
            raise ReidpipeError(
                f"found class {key} named {shortened(sorted(names))} in {index.dataset}; expected "
                "one name per class; correct the column classname"
            )
        if names == {""}:
            raise ReidpipeError(
                f"found class {key} of {index.dataset} without a name; expected words to ask for; "
                "add a column classname, or write names into class"
            )
    names = [next(iter(given[key])) for key in order]
    _check_apart(index.dataset, order, names)
    return {key: label for label, key in enumerate(order)}, names


def _check_apart(dataset: str, keys: list[str], names: list[str]) -> None:
    if len(names) < 2:
        raise ReidpipeError(
            f"found one class, '{names[0]}', in {dataset}; expected two at least to tell apart"
        )
    first: dict[str, int] = {}
    for label, name in enumerate(names):
        # A text tower reads neither case nor underscores.
        other = first.setdefault(" ".join(name.replace("_", " ").casefold().split()), label)
        if other != label:
            raise ReidpipeError(
                f"found classes {keys[other]} and {keys[label]} of {dataset} both named "
                f"'{names[other]}'; expected a name of its own for each; rename one, or make them "
                "one class"
            )


def _compare(found: OwnClasses, names: list[str]) -> None:
    trained, tested = ({row.label for row in rows} for rows in (found.train, found.test))
    for one, other, lacking, kind in (
        (tested, trained, "train on", "test"),
        (trained, tested, "test on", "training"),
    ):
        apart = [names[label] for label in sorted(one - other)]
        if apart and other:
            found.notes.append(
                f"warning: {len(apart)} classes have {kind} images and none to {lacking}: "
                f"{shortened(apart)}"
            )


def _key(row: ImageRow) -> str:
    """What tells an image's class: its number or name; empty without one."""
    text = _tidy(row.extra.get("class", ""))
    number = _NUMBER.fullmatch(text)
    return str(int(number[1])) if number else text or _tidy(row.extra.get("classname", ""))


def _name(row: ImageRow) -> str:
    text = _tidy(row.extra.get("classname", ""))
    return text or ("" if _NUMBER.fullmatch(_key(row)) else _key(row))


def _tidy(text: str) -> str:
    """Composed characters (NFC), single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).split())
