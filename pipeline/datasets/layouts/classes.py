"""Classification sets: Oxford Pets, Oxford Flowers, ImageNet and its variants.

Rows carry ``class`` (label from 0) and ``classname`` in their extra columns; a labelled test set
has the split ``query``: its images are what is compared with the class names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.artifacts.atomic import parse_json
from pipeline.datasets.layouts.files import Reading
from pipeline.datasets.layouts.matlab import read_mat
from pipeline.datasets.layouts.roots import names_beside
from pipeline.datasets.layouts.rows import LayoutRow, read_lines, walk_images
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import shortened

SEED = 0
VAL_SHARE = 0.2


def read_class_folders(reading: Reading) -> None:
    """ImageNet style: one folder per class, named by its WordNet id (or 0..999 in ImageNet-V2).

    Labels are positions in the sorted list of folders (numerically for numbers); names come from
    ``classnames.txt``, one ``wnid name words`` line per class in label order. ImageNet names
    repeat (two classes are called "missile"), so the column ``wnid`` identifies a class.
    """
    numeric = reading.manifest.numeric_folders
    names = _class_names(reading)
    wnids = list(names)
    for source in reading.layout.sources:
        top = reading.place(source.folder)
        if top is None:
            continue
        folders = [entry.name for entry in top.iterdir() if entry.is_dir()]
        rule = re.compile(r"^\d+$" if numeric else r"^n\d{8}$")
        odd = sorted(name for name in folders if not rule.match(name) and name[:1] not in "._")
        reading.unmatched += [reading.relative(top / name) for name in odd if name != "__MACOSX"]
        folders = sorted((f for f in folders if rule.match(f)), key=int if numeric else None)
        for label, folder in enumerate(folders):
            # In V2 the folder number is the label itself, also when folders are missing.
            label = int(folder) if numeric else label
            wnid = folder
            if numeric:
                if label >= len(wnids):
                    raise ReidpipeError(
                        f"{top}: found class folder {folder} but {len(wnids)} names in "
                        f"{reading.manifest.names_file}; expected ImageNet's list of 1000"
                    )
                wnid = wnids[label]
            if wnid not in names:
                raise ReidpipeError(
                    f"{top}: found class folder {wnid}, absent from "
                    f"{reading.manifest.names_file}; expected ImageNet's list of 1000 classes"
                )
            extra = {"class": str(label), "classname": names[wnid], "wnid": wnid}
            for path in walk_images(top / folder):
                if path.suffix.lower() not in reading.manifest.suffixes:
                    reading.unmatched.append(reading.relative(path))
                    continue
                row = LayoutRow(reading.relative(path), source.split, None, extra=dict(extra))
                reading.rows.append(row)


def _class_names(reading: Reading) -> dict[str, str]:
    name = reading.manifest.names_file or "classnames.txt"
    own, lists = reading.root / name, reading.lists and reading.lists / name
    path = own if own.is_file() else names_beside(reading.root, name)
    if path is None and lists is not None and lists.is_file():
        path = lists
    if path is None:
        raise ReidpipeError(
            f"found no {name} in {reading.root} or beside it; expected lines `wnid name` for "
            f"the classes of {reading.manifest.title}; put the list of ImageNet names there"
        )
    names = {}
    for line in read_lines(path):
        wnid, _, words = line.partition(" ")
        if not re.match(r"^n\d{8}$", wnid) or not words.strip():
            raise ReidpipeError(f"{path}: found '{line[:60]}'; expected lines `wnid name`")
        names[wnid] = words.strip()
    return names


def read_pets(reading: Reading) -> None:
    """Oxford-IIIT Pet by the split file of CoOp when it is there, else by the official lists.

    Class names are file names without the number, lower case, ``_`` read as a space. The official
    lists have no validation set: 20 % of each class of trainval are drawn with a seed, and a note
    says so. Pictures under a wrong suffix are kept; decoding looks at the content.
    """
    folder = reading.place("images")
    assert folder is not None
    if _read_split_json(reading, "split_zhou_OxfordPets.json", folder):
        return
    drawn: dict[str, list[str]] = defaultdict(list)
    for split, name in (("train", "trainval.txt"), ("query", "test.txt")):
        listing = reading.place(f"annotations/{name}")
        if listing is None:
            raise ReidpipeError(
                f"found neither split_zhou_OxfordPets.json nor annotations/{name} in "
                f"{reading.root}; unpack annotations.tar.gz there"
            )
        for line in read_lines(listing):
            if line.startswith("#"):
                continue
            stem, label = line.split()[:2]
            classname = stem.rsplit("_", 1)[0].lower().replace("_", " ")
            _append(reading, folder / f"{stem}.jpg", split, int(label) - 1, classname)
            if split == "train":
                drawn[label].append(reading.rows[-1].path)
    validation: set[str] = set()
    generator = np.random.default_rng(SEED)
    for label in sorted(drawn, key=int):
        count = int(len(drawn[label]) * VAL_SHARE + 0.5)
        order = generator.permutation(len(drawn[label]))[:count]
        validation.update(drawn[label][i] for i in order)
    reading.rows = [
        replace(row, split="val") if row.path in validation else row for row in reading.rows
    ]
    reading.notes.append(
        "split_zhou_OxfordPets.json not found: official trainval and test lists, 20 % of each "
        f"class of trainval drawn as val with seed {SEED}; numbers differ from published few-shot "
        "tables"
    )


def read_flowers(reading: Reading) -> None:
    """Oxford Flowers 102 by CoOp's split file, else ``setid.mat``, else a seeded 50/20/30 draw.

    ``imagelabels.mat`` counts labels and images from 1; names come from ``cat_to_name.json``.
    """
    folder = reading.place("jpg")
    assert folder is not None
    if _read_split_json(reading, "split_zhou_OxfordFlowers.json", folder):
        return
    labels_file, names_file = reading.place("imagelabels.mat"), reading.place("cat_to_name.json")
    if labels_file is None or names_file is None:
        raise ReidpipeError(
            f"found no split_zhou_OxfordFlowers.json in {reading.root}; expected it, or "
            "imagelabels.mat together with cat_to_name.json"
        )
    labels = _whole_numbers(labels_file, "labels")
    names = _named(names_file, set(labels))
    splits = _flower_splits(reading, labels)
    for number, label in enumerate(labels, start=1):
        if number in splits:
            path = folder / f"image_{number:05d}.jpg"
            _append(reading, path, splits[number], label - 1, names[str(label)])


def _whole_numbers(path: Path, name: str) -> list[int]:
    try:
        return [int(number) for number in read_mat(path, (name,))[name].ravel()]
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ReidpipeError(
            f"{path}: found {name} that are no whole numbers ({str(error)[:80]}); fetch it again"
        ) from error


def _named(path: Path, labels: set[int]) -> dict[str, str]:
    """Names by label, as text. Raises ReidpipeError unless there is one of each label."""
    try:
        found = parse_json(path.read_bytes())
    except ValueError as error:
        raise ReidpipeError(f"{path}: found no JSON ({error}); fetch it again") from error
    lacking = [n for n in sorted(labels) if not isinstance(found, dict) or str(n) not in found]
    if lacking or not all(isinstance(name, str) for name in found.values()):
        raise ReidpipeError(
            f"{path}: found no name of label {lacking[0] if lacking else '?'}; expected a name of "
            f"each of {len(labels)}; fetch it again"
        )
    return found


def _flower_splits(reading: Reading, labels: list[int]) -> dict[int, str]:
    """Image number (from 1) -> split."""
    official = reading.place("setid.mat")
    if official is not None:
        numbers = {key: _whole_numbers(official, key) for key in ("trnid", "valid", "tstid")}
        reading.notes.append(
            "split_zhou_OxfordFlowers.json not found: official setid.mat; few-shot tables use "
            "another split"
        )
        return {
            number: split
            for key, split in (("trnid", "train"), ("valid", "val"), ("tstid", "query"))
            for number in numbers[key]
        }
    per_class: dict[int, list[int]] = defaultdict(list)
    for number, label in enumerate(labels, start=1):
        per_class[label].append(number)
    generator = np.random.default_rng(SEED)
    splits: dict[int, str] = {}
    for label in sorted(per_class):
        numbers = generator.permutation(per_class[label]).tolist()
        first, second = round(len(numbers) * 0.5), round(len(numbers) * 0.7)
        splits.update(dict.fromkeys(numbers[:first], "train"))
        splits.update(dict.fromkeys(numbers[first:second], "val"))
        splits.update(dict.fromkeys(numbers[second:], "query"))
    reading.notes.append(
        f"no official split found: 50/20/30 % of each class drawn with seed {SEED}; numbers "
        "differ from published tables"
    )
    return splits


def _read_split_json(reading: Reading, name: str, folder: Path) -> bool:
    """Rows of ``{train, val, test: [[relative path, label, class name], ...]}``, if present."""
    path = reading.place(name)
    if path is None and reading.lists is not None and (reading.lists / name).is_file():
        path = reading.lists / name
    if path is None:
        return False
    try:
        content = parse_json(path.read_bytes())
        entries = [
            (split, str(relative), int(label), str(classname))
            for split in ("train", "val", "test")
            for relative, label, classname in content[split]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ReidpipeError(
            f"{path}: found {error}; expected train, val and test lists of "
            "[path, label, class name]"
        ) from error
    for split, relative, label, classname in entries:
        name_words = classname.replace("_", " ")
        _append(reading, folder / relative, split.replace("test", "query"), label, name_words)
    return True


def _append(reading: Reading, path: Path, split: str, label: int, classname: str) -> None:
    if not path.is_file():
        raise ReidpipeError(
            f"found no {path}; expected every listed image of {reading.manifest.title}"
            f"{_wrong_tree(path)}; unpack the image archive again"
        )
    extra = {"class": str(label), "classname": classname}
    reading.rows.append(LayoutRow(reading.relative(path), split, None, extra=extra))


def _wrong_tree(path: Path) -> str:
    folder = path.parent
    present = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    return f", found {shortened(present)} there" if present else ""
