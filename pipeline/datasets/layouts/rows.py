"""What reading a tree yields: rows without pixels, and the walk over image files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.terminal.errors import ReidpipeError

SKIPPED_NAMES = frozenset({"__MACOSX", "Thumbs.db"})
# Anything a person may call an image; which of them a dataset uses is said by its manifest.
IMAGE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp",
        ".ppm", ".pgm", ".pbm", ".pnm",
    }
)  # fmt: skip


# What a workspace of ours has in it, beside the images where these lie in the same folder.
WORKSPACE_FOLDERS = frozenset(
    {
        "artifacts", "datasets", "embeddings", "exports", "machines", "queue", "reports", "runs",
        "weights",
    }
)  # fmt: skip


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
    mention, such as a split drawn by us. examples: reason -> the path of one image left out.
    cameras: number -> what the camera is called, where names were numbered in this reading alone.
    """

    root: Path
    rows: list[LayoutRow]
    layout: str
    dropped: dict[str, int] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    examples: dict[str, str] = field(default_factory=dict)
    cameras: dict[int, str] = field(default_factory=dict)


def is_image(name: str) -> bool:
    """Whether a file is an image by the end of its name, in any case."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def plain_name(name: str) -> str:
    """An image's name as naming rules describe it, its suffix once and in lower case.

    ``a.JPG`` and ``a.jpg.jpg`` are ``a.jpg``: tools write suffixes anew, and even Market-1501's
    archive has doubled ones. A name without an image's suffix stays as it is.
    """
    stem, dot, suffix = name.rpartition(".")
    suffix = f"{dot}{suffix}".lower()
    if suffix not in IMAGE_SUFFIXES:
        return name
    while stem.lower().endswith(suffix):
        stem = stem[: -len(suffix)]
    return stem + suffix


def is_skipped(name: str) -> bool:
    """Whether an entry is hidden or left behind by an operating system, and never data."""
    return name in SKIPPED_NAMES or name.startswith(".")


def is_workspace(folder: Path | str) -> bool:
    """Whether a folder is a workspace of ours: what it holds was made from data and is none.

    ``prepare`` leaves a lock in it before it looks at any image, every other command the index.
    """
    folder = Path(folder)
    return (folder / "artifacts" / "index").is_dir() or any((folder / "datasets").glob("*.lock"))


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder`` that are not hidden and no clutter, in sorted order."""
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if not is_skipped(e.name) and _is_folder(e))
    return [folder / name for name in names]


def data_folders(folder: Path) -> list[Path]:
    """``subfolders`` without workspaces: the default one lies in the folder where a command is
    typed, among the images, and ``--workspace .`` is that folder itself.
    """
    ours = _ours(folder)
    return [
        inner for inner in subfolders(folder) if inner.name not in ours and not is_workspace(inner)
    ]


def _ours(folder: Path | str) -> frozenset[str]:
    """The folders in ``folder`` that are a workspace's: none where it is no workspace."""
    return WORKSPACE_FOLDERS if is_workspace(folder) else frozenset()


def walk_files(
    folder: Path,
    *,
    depth: int | None = None,
    skipped: list[tuple[str, Path]] | None = None,
    workspace: Path | None = None,
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that is no folder below ``folder``, as (posix path of its folder, entry), sorted.

    ``depth=1`` stays in the folder itself. Hidden entries, clutter and workspaces are left out;
    links to folders are followed, except into a folder that the walk is in already. Of a
    ``folder`` that is a workspace itself its own folders are left out.
    skipped: receives the hidden entries, as (posix path of their folder, path). workspace: a folder
    that is one, though nothing in it may say so yet.
    """
    if not folder.is_dir():
        return
    known = None
    if workspace is not None and workspace.is_dir():
        found = workspace.stat()
        known = (found.st_dev, found.st_ino)
    yield from _walk(str(folder), ".", depth, (), [] if skipped is None else skipped, known)


def _walk(
    folder: str,
    place: str,
    depth: int | None,
    above: tuple[tuple[int, int], ...],
    skipped: list[tuple[str, Path]],
    workspace: tuple[int, int] | None,
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    found = Path(folder).stat()
    here = (found.st_dev, found.st_ino)
    if here in above or (above and here == workspace):
        return
    ours: frozenset[str] = frozenset()
    if not above:
        ours = WORKSPACE_FOLDERS if here == workspace else _ours(folder)
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if is_skipped(entry.name):
            skipped.append((place, Path(entry.path)))
            continue
        if not _is_folder(entry):
            yield place, entry
        elif (
            (depth is None or depth > 1) and entry.name not in ours and not is_workspace(entry.path)
        ):
            inner = entry.name if place == "." else f"{place}/{entry.name}"
            yield from _walk(
                entry.path, inner, depth and depth - 1, (*above, here), skipped, workspace
            )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself leads to nothing
        return False


def walk_images(folder: Path, *, depth: int | None = None) -> Iterator[Path]:
    """Image files below ``folder`` in sorted order; ``depth=1`` stays in the folder itself.

    A link to a missing file is yielded, so that its reader names it; a device or pipe is not.
    Raises ReidpipeError for a name that is no UTF-8: no table could hold it.
    """
    for _, entry in walk_files(folder, depth=depth):
        if not is_image(entry.name) or not _is_file(entry):
            continue
        try:
            entry.path.encode()  # in full: the folder may be a class, which is in the table too
        except UnicodeEncodeError as error:
            shown = entry.path.encode(errors="backslashreplace").decode()
            raise ReidpipeError(
                f"found the name {shown}, which is no UTF-8; expected names that a table can hold; "
                "rename it"
            ) from error
        yield Path(entry.path)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:  # a link to itself leads to nothing
        return False


def read_text(path: Path, what: str) -> str:
    """The text of a UTF-8 file, line ends as they are; ``what`` says which file is expected.

    Raises ReidpipeError for bytes that are no UTF-8.
    """
    try:
        # utf-8-sig: spreadsheets write a byte-order mark before the first character.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReidpipeError(
            f"{path}: found bytes that are no UTF-8 text; expected {what}"
        ) from error


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a list file, stripped.

    Raises ReidpipeError for a file that is no UTF-8 text.
    """
    text = read_text(path, "a list file; fetch it again")
    return [line.strip() for line in text.splitlines() if line.strip()]


def integer(text: str) -> int | None:
    """The number that at most 18 ASCII digits write, which arrays of identities hold, with a minus
    or none; None for anything else. ``int`` reads 1_12 as 112.
    """
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None


def not_a_number(key: str, text: str, path: str) -> ReidpipeError:
    """The error for a group of a rule that is no number."""
    return ReidpipeError(
        f"found {key} '{text}' in {path}; expected a number of at most 18 digits; correct the rule"
    )
