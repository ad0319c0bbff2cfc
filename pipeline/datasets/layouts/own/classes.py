"""A table whose images show no people by name: each has a class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.datasets.layouts.own.found import Found
from pipeline.datasets.layouts.own.words import TEST
from pipeline.datasets.layouts.rows import LayoutRow

OF_CLASSES = "table of classes"
COLUMNS = ("class", "classname")


def are_classes(found: Sequence[Found]) -> bool:
    """Whether images have classes and nobody is named: they are for ``classify``."""
    return any(_has_class(image) for image in found) and not any(image.person for image in found)


def class_rows(found: Iterable[Found]) -> list[LayoutRow]:
    """Rows with the columns ``class`` and ``classname`` as written; where an image has neither, its
    label, which is then no person's, is its class. Test images have the split ``query``, as those
    of published sets: they are compared with words and no gallery.
    """
    rows = []
    for image in found:
        extra = dict(image.extra)
        if not _has_class(image):
            extra["class"] = image.person
        split = "query" if image.split == TEST else image.split
        rows.append(LayoutRow(image.path, split, None, extra=extra))
    return sorted(rows, key=lambda row: (row.split, row.path))


def _has_class(image: Found) -> bool:
    return any(image.extra.get(name, "").strip() for name in COLUMNS)
