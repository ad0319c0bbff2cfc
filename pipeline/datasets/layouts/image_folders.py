"""Classes of one's own: a folder per class, as torchvision's ImageFolder has them, or a table."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import Path

from pipeline.datasets.layouts.files import Reading
from pipeline.datasets.layouts.own.classes import class_rows
from pipeline.datasets.layouts.own.found import Tale
from pipeline.datasets.layouts.own.table import read_table, tell_sheet
from pipeline.datasets.layouts.own.tree import no_image, other_files, unwrapped
from pipeline.datasets.layouts.own.words import TEST, split_of
from pipeline.datasets.layouts.rows import LayoutRow, data_folders, walk_images
from pipeline.terminal.errors import ReidpipeError


def read_image_folders(reading: Reading) -> None:
    """Rows with ``class`` (number) and ``classname`` (the folder's name, composed characters).

    The root is a table, whose columns ``class`` and ``classname`` (or else ``label``) stay as they
    are, or a folder of ``<class>/<image>`` or ``<split>/<class>/<image>``. A folder is a split when
    its name is a split's word and no image lies in it itself: a class of trains is a class. Classes
    are numbered in the order of their names over all splits. Test images have the split ``query``,
    as those of published sets. Raises ReidpipeError for folders of which no reading is a set of
    classes.
    """
    if reading.root.is_file():
        _read_table(reading)
        return
    reading.root, notes = unwrapped(reading.root)
    reading.notes += notes
    splits = _splits(reading.root)
    members: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for split, top in splits or [("train", reading.root)]:
        reading.leave_out("in no class folder", *walk_images(top, depth=1))
        for folder in data_folders(top):
            images = list(walk_images(folder))
            if images and all(path.parent != folder for path in images):
                raise ReidpipeError(
                    f"found only folders with images in {folder}; expected a folder per class, "
                    f"with images in it; type the folder that holds the classes, such as {folder}"
                )
            members[_composed(folder.name)] += [(split, path) for path in images]
    names = sorted(name for name, images in members.items() if images)
    if not names:
        what, cure = "no folder of images", "type the folder that holds the classes"
        if next(walk_images(reading.root), None) is None:
            what, cure = no_image(reading.root)
        raise ReidpipeError(
            f"found {what} in {reading.root}; expected FOLDER/<class>/<image>, "
            f"FOLDER/<split>/<class>/<image> or a CSV with path, class and classname; {cure}"
        )
    if splits:
        used = {folder for _, folder in splits}
        beside = [folder for folder in data_folders(reading.root) if folder not in used]
        for folder in [reading.root, *beside]:
            depth = 1 if folder == reading.root else None
            reading.leave_out("beside the splits", *walk_images(folder, depth=depth))
    reading.notes += other_files(reading.root)
    for number, name in enumerate(names):
        for split, path in members[name]:
            extra = {"class": str(number), "classname": name}
            reading.rows.append(LayoutRow(reading.relative(path), split, None, extra=extra))


def _read_table(reading: Reading) -> None:
    table, tale = reading.root, Tale()
    tell_sheet(table)
    reading.root, reading.rows = table.parent, class_rows(read_table(table, tale))
    reading.notes += tale.notes


def _splits(root: Path) -> list[tuple[str, Path]]:
    found = []
    for folder in data_folders(root):
        split = split_of(folder.name)
        if split is not None and next(walk_images(folder, depth=1), None) is None:
            found.append(("query" if split == TEST else split, folder))
    return found


def _composed(name: str) -> str:
    # Systems differ in how they write an accent; the class is one.
    return unicodedata.normalize("NFC", name)
