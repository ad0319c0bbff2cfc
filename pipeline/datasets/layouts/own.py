"""A person's own images: folders per identity, a naming rule, or a table."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.datasets.layouts.rows import (
    LayoutResult,
    LayoutRow,
    is_workspace,
    read_text,
    shortened,
    subfolders,
    walk_images,
)
from pipeline.datasets.layouts.splits import number_identities
from pipeline.terminal.errors import ReidpipeError, nearest

SPLITS = ("train", "val", "query", "gallery")
COLUMNS = ("path", "split", "pid", "camid", "view", "sequence", "frame")
# What other tools write beside the table's own columns, and what an index has of its own.
IGNORED_COLUMNS = ("key", "width", "height", "digest")
TABLE = "index.csv"
WRAPPINGS = 3


def read_own(root: Path, *, rule: str | None = None) -> LayoutResult:
    """Rows of a tree that follows no published scheme.

    root: a folder or a CSV file; folders that hold nothing but one folder of folders are entered.
    Tried in this order: a CSV (the file itself, or ``index.csv`` in the folder) with the index
    columns, of which ``path`` is required; ``<split>/...`` when the folder holds any of train,
    val, query, gallery, else one ``train`` split; the identity from ``rule`` (groups pid, camid,
    view, frame, seq, on file names) or else from the image's folder. Identities that are no
    numbers, or of which two are one number (7 and 007), are numbered in sorted order and kept as
    column ``identity``.
    Raises ReidpipeError for a table or rule that cannot be read, split folders under other names,
    and images without an identity.
    """
    if root.is_file():
        return _from_table(root)
    if not root.is_dir():
        raise ReidpipeError(
            f"found no folder or CSV file {root}; expected your images; "
            "type reidpipe prepare folder --root FOLDER"
        )
    pattern = _compiled(rule)
    root, notes = _unwrapped(root)
    if (root / TABLE).is_file():
        found = _from_table(root / TABLE)
        return replace(found, notes=[*notes, *found.notes])
    present = _splits(root)
    rows: list[LayoutRow] = []
    unmatched: list[str] = []
    for split in present or ["train"]:
        folder = root / split if present else root
        for path in walk_images(folder):
            relative = path.relative_to(root).as_posix()
            row = _row(path, relative, split, folder, pattern)
            if row is None:
                unmatched.append(relative)
            else:
                rows.append(row)
    if not rows:
        odd = f", such as {shortened(unmatched)}" if unmatched else ""
        raise ReidpipeError(
            f"found {len(unmatched)} images without an identity in {root}{odd}; expected "
            "FOLDER/<identity>/<image>, FOLDER/<split>/<identity>/<image>, a CSV with a column "
            "path, or a naming rule with a group (?P<pid>...)"
        )
    layout = "rule" if pattern else ("split folders" if present else "identity folders")
    if not present:
        notes.append("no split folders found: all images are in train")
    elif beside := _beside(root):
        notes.append(
            f"warning: left out, beside the split folders {', '.join(present)}: images in "
            f"{shortened(beside, 5)}"
        )
    rows, same = _numbered(rows)
    if same:
        notes.append(
            f"warning: identities {' and '.join(same)} are one number, so all keep their text"
        )
    rows.sort(key=lambda row: (row.split, row.path))
    return LayoutResult(root, rows, layout, {}, unmatched, notes)


def _unwrapped(root: Path) -> tuple[Path, list[str]]:
    """The folder below ``root`` where its content begins, and a note when that is another."""
    inner = root
    for _ in range(WRAPPINGS):
        folders = _folders(inner)
        if (
            len(folders) != 1
            or _is_split_name(folders[0].name)
            or (inner / TABLE).is_file()
            or next(walk_images(inner, depth=1), None) is not None
            or not _folders(folders[0])
        ):
            break
        inner = folders[0]
    return inner, [] if inner == root else [f"images are read in {inner}, the only folder there"]


def _folders(root: Path) -> list[Path]:
    # The default workspace lies in the folder where a command is typed: among the images.
    return [folder for folder in subfolders(root) if not is_workspace(folder)]


def _is_split_name(name: str) -> bool:
    # A folder of test images could be the queries, the gallery or both.
    return name.lower() in (*SPLITS, "test")


def _splits(root: Path) -> list[str]:
    """The split folders that exist; ReidpipeError for some that are meant but named otherwise."""
    names = [folder.name for folder in _folders(root)]
    present = [split for split in SPLITS if split in names]
    meant = [name for name in names if _is_split_name(name)]
    if meant and not present:
        raise ReidpipeError(
            f"found the folders {', '.join(meant)} in {root}; expected split folders named "
            f"{', '.join(SPLITS)} (test images: some in query, the others in gallery), or none "
            "and a folder per identity; rename them"
        )
    return present


def _beside(root: Path) -> list[str]:
    """Folders with images, and images, that lie beside the split folders."""
    folders = [folder for folder in _folders(root) if folder.name not in SPLITS]
    held = [folder for folder in folders if next(walk_images(folder), None) is not None]
    return [path.name for path in (*held, *walk_images(root, depth=1))]


def _compiled(rule: str | None) -> re.Pattern[str] | None:
    if rule is None:
        return None
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ReidpipeError(
            f"found the naming rule '{rule}': {error}; expected a regular expression such as "
            r"'(?P<pid>\d+)_c(?P<camid>\d+).*'"
        ) from error
    known = {"pid", "camid", "view", "frame", "seq"}
    odd = sorted(set(pattern.groupindex) - known)
    if "pid" not in pattern.groupindex or odd:
        found = f"group '{odd[0]}'{nearest(odd[0], known)}" if odd else "no group 'pid'"
        raise ReidpipeError(
            f"found {found} in the naming rule '{rule}'; expected a group pid and any of camid, "
            r"view, frame, seq; type for example '(?P<pid>\d+)_c(?P<camid>\d+).*'"
        )
    return pattern


def _row(
    path: Path, relative: str, split: str, folder: Path, pattern: re.Pattern[str] | None
) -> LayoutRow | None:
    """The row of an image, its identity as text; None for an image without identity."""
    if pattern is None:
        if path.parent == folder:
            return None
        name, fields = path.relative_to(folder).parts[0], {}
    else:
        match = pattern.match(path.name)
        if match is None or not match["pid"]:
            return None
        fields = {key: value for key, value in match.groupdict().items() if value is not None}
        name = fields["pid"]
    numbers: dict[str, int | None] = {}
    for key in ("camid", "view", "frame"):
        numbers[key] = _integer(fields.get(key))
        if key in fields and numbers[key] is None:
            raise ReidpipeError(
                f"found {key} '{fields[key]}' in {relative}; expected a number of at most 18 "
                "digits; correct the rule"
            )
    return LayoutRow(
        path=relative,
        split=split,
        pid=None,
        camid=numbers["camid"],
        view=numbers["view"],
        sequence=fields.get("seq", ""),
        frame=numbers["frame"],
        extra={"identity": name},
    )


def _numbered(rows: list[LayoutRow]) -> tuple[list[LayoutRow], list[str]]:
    """Rows whose identities are numbers, and two names that would be the same number, if any."""
    names: dict[int | None, list[str]] = defaultdict(list)
    for name in dict.fromkeys(row.extra["identity"] for row in rows):
        names[_integer(name)].append(name)
    same = [sorted(found)[:2] for pid, found in names.items() if pid is not None and found[1:]]
    if same or None in names:
        return number_identities(rows), same[0] if same else []
    return [replace(row, pid=_integer(row.extra["identity"]), extra={}) for row in rows], []


def _integer(text: str | None) -> int | None:
    # More than 18 digits would overflow the 64 bits that arrays of identities have.
    return int(text) if text and re.fullmatch(r"\d{1,18}", text) else None


def _from_table(table: Path) -> LayoutResult:
    text = read_text(table, "a table in UTF-8; save it as CSV UTF-8")
    try:
        rows = list(_table_rows(text, table))
    except csv.Error as error:
        raise ReidpipeError(
            f"{table}: found no CSV ({error}); expected lines of fields with commas between; "
            "save it as CSV UTF-8"
        ) from error
    if not rows:
        raise ReidpipeError(f"{table}: found no rows; expected one per image")
    twice = [key for key, n in Counter((row.path, row.split) for row in rows).items() if n > 1]
    if twice:
        raise ReidpipeError(
            f"{table}: found {twice[0][0]} twice in split {twice[0][1]}; expected each image once "
            "per split"
        )
    rows = sorted(number_identities(rows), key=lambda row: (row.split, row.path))
    return LayoutResult(table.parent, rows, "table")


def _table_rows(text: str, table: Path) -> Iterator[LayoutRow]:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    header = [name.strip() for name in next(reader, [])]
    if "path" not in header or len(set(header)) < len(header):
        raise ReidpipeError(
            f"{table}: found the columns {','.join(header) or 'none'}; expected a column path "
            f"and any of {','.join(COLUMNS[1:])}, each once"
        )
    for fields in reader:
        if not fields:
            continue
        where = f"{table} line {reader.line_num}"
        if len(fields) != len(header):
            raise ReidpipeError(
                f"{where}: found {len(fields)} fields; expected {len(header)}, as in the first "
                "line; put quotes around a field with a comma in it"
            )
        yield _table_row(dict(zip(header, fields, strict=True)), where, table.parent)


def _table_row(fields: dict[str, str], where: str, root: Path) -> LayoutRow:
    path = fields["path"].strip()
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts:
        raise ReidpipeError(f"{where}: found path '{path}'; expected one relative to {root}")
    if not (root / path).is_file():
        raise ReidpipeError(f"{where}: found no file {root / path}; expected an image")
    split = fields.get("split", "").strip() or "train"
    if split not in SPLITS:
        raise ReidpipeError(
            f"{where}: found split '{split}'{nearest(split, SPLITS)}; expected {', '.join(SPLITS)}"
        )
    numbers: dict[str, int | None] = {}
    for name in ("camid", "view", "frame"):
        text = fields.get(name, "").strip()
        numbers[name] = _integer(text)
        if text and numbers[name] is None:
            raise ReidpipeError(
                f"{where}: found {name} '{text}'; expected a number of at most 18 digits or nothing"
            )
    text = fields.get("pid", "").strip()
    pid = _integer(text)
    extra = {
        name: value for name, value in fields.items() if name not in (*COLUMNS, *IGNORED_COLUMNS)
    }
    if text and pid is None:
        extra["identity"] = text
    return LayoutRow(
        path=path,
        split=split,
        pid=pid,
        camid=numbers["camid"],
        view=numbers["view"],
        sequence=fields.get("sequence", ""),
        frame=numbers["frame"],
        extra=extra,
    )
