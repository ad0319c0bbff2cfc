"""What reading a tree yields: rows without pixels, and the walk over image files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import ReidpipeError

SKIPPED_NAMES = frozenset({"__MACOSX", "Thumbs.db", ".DS_Store"})
# Anything a person may call an image; which of them a dataset uses is said by its manifest.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp"})


@dataclass(frozen=True, slots=True)
class LayoutRow:
    """One image in one split, before its file has been read.

    path: posix, relative to the root of its LayoutResult. camid and view count from 0; None:
    unknown. extra: columns the dataset adds.
    """

    path: str
    split: str
    pid: int | None
    camid: int | None = None
    view: int | None = None
    sequence: str = ""
    frame: int | None = None
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LayoutResult:
    """All rows of a tree, and what was left out.

    root: absolute folder that paths are relative to (the output folder where images had to be
    extracted). layout: name of the accepted layout. dropped: reason -> number of images left out
    on purpose. unmatched: image files whose names break the rule. notes: decisions a report must
    mention, such as a split drawn by us.
    """

    root: Path
    rows: list[LayoutRow]
    layout: str
    dropped: dict[str, int] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_skipped(name: str) -> bool:
    """Whether an entry is left behind by an operating system and never data."""
    return name in SKIPPED_NAMES or name.startswith("._")


def walk_images(folder: Path, *, depth: int | None = None) -> Iterator[Path]:
    """Image files below ``folder`` in sorted order; ``depth=1`` stays in the folder itself."""
    for place, folders, files in os.walk(folder, followlinks=True):
        level = len(Path(place).relative_to(folder).parts) + 1
        deeper = depth is None or level < depth
        folders[:] = sorted(name for name in folders if not is_skipped(name)) if deeper else []
        for name in sorted(files):
            if not is_skipped(name) and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(place) / name


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a list file, stripped.

    Raises ReidpipeError for a file that is no UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReidpipeError(
            f"{path}: found bytes that are no UTF-8 text; expected a list file; fetch it again"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def shortened(names: list[str], most: int = 3) -> str:
    """``a, b, c and 7 more`` for messages."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
