"""A person's own images: folders per identity, a naming rule, or a table."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path, PurePosixPath

from pipeline.errors import ReidpipeError, nearest
from pipeline.layouts.rows import LayoutResult, LayoutRow, shortened, walk_images
from pipeline.layouts.splits import number_identities

SPLITS = ("train", "val", "query", "gallery")
COLUMNS = ("path", "split", "pid", "camid", "view", "sequence", "frame")
# What other tools write beside the table's own columns, and what an index has of its own.
IGNORED_COLUMNS = ("key", "width", "height", "digest")


def read_own(root: Path, *, rule: str | None = None) -> LayoutResult:
    """Rows of a tree that follows no published scheme.

    root: a folder or a CSV file. Tried in this order: a CSV (the file itself, or ``index.csv`` in
    the folder) with the index columns, of which ``path`` is required; ``<split>/...`` when the
    folder holds any of train, val, query, gallery, else one ``train`` split; the identity from
    ``rule`` (groups pid, camid, view, frame, on file names) or else from the image's folder.
    Identities that are no numbers are numbered in sorted order and kept as column ``identity``.
    """
    if root.is_file() or (root / "index.csv").is_file():
        return _from_table(root if root.is_file() else root / "index.csv")
    if not root.is_dir():
        raise ReidpipeError(
            f"found no folder or CSV file {root}; expected your images; "
            "type reidpipe prepare folder --root FOLDER"
        )
    pattern = _compiled(rule)
    present = [split for split in SPLITS if (root / split).is_dir()]
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
    notes = [] if present else ["no split folders found: all images are in train"]
    rows = sorted(number_identities(rows), key=lambda row: (row.split, row.path))
    return LayoutResult(root, rows, layout, {}, unmatched, notes)


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
    for key in ("camid", "view", "frame"):
        if key in fields and not fields[key].isdigit():
            raise ReidpipeError(
                f"found {key} '{fields[key]}' in {relative}; expected a number; correct the rule"
            )
    number = _integer(name)
    return LayoutRow(
        path=relative,
        split=split,
        pid=number,
        camid=_integer(fields.get("camid")),
        view=_integer(fields.get("view")),
        sequence=fields.get("seq", ""),
        frame=_integer(fields.get("frame")),
        extra={} if number is not None else {"identity": name},
    )


def _integer(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d+", text) else None


def _from_table(table: Path) -> LayoutResult:
    root = table.parent
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        header = list(reader.fieldnames or [])
        if "path" not in header:
            raise ReidpipeError(
                f"{table}: found the columns {','.join(header) or 'none'}; expected a column path "
                f"and any of {','.join(COLUMNS[1:])}"
            )
        rows = [_table_row(fields, f"{table} line {reader.line_num}", root) for fields in reader]
    if not rows:
        raise ReidpipeError(f"{table}: found no rows; expected one per image")
    twice = [key for key, n in Counter((row.path, row.split) for row in rows).items() if n > 1]
    if twice:
        raise ReidpipeError(
            f"{table}: found {twice[0][0]} twice in split {twice[0][1]}; expected each image once "
            "per split"
        )
    rows = sorted(number_identities(rows), key=lambda row: (row.split, row.path))
    return LayoutResult(root, rows, "table")


def _table_row(fields: dict[str, str], where: str, root: Path) -> LayoutRow:
    path = (fields["path"] or "").strip()
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts:
        raise ReidpipeError(f"{where}: found path '{path}'; expected one relative to {root}")
    if not (root / path).is_file():
        raise ReidpipeError(f"{where}: found no file {root / path}; expected an image")
    split = fields.get("split") or "train"
    if split not in SPLITS:
        raise ReidpipeError(
            f"{where}: found split '{split}'{nearest(split, SPLITS)}; expected {', '.join(SPLITS)}"
        )
    numbers: dict[str, int | None] = {}
    for name in ("camid", "view", "frame"):
        text = (fields.get(name) or "").strip()
        if text and not text.isdigit():
            raise ReidpipeError(f"{where}: found {name} '{text}'; expected a number or nothing")
        numbers[name] = int(text) if text else None
    text = (fields.get("pid") or "").strip()
    pid = _integer(text)
    extra = {
        name: value or ""
        for name, value in fields.items()
        if name is not None and name not in (*COLUMNS, *IGNORED_COLUMNS)
    }
    if text and pid is None:
        extra["identity"] = text
    return LayoutRow(
        path=path,
        split=split,
        pid=pid,
        camid=numbers["camid"],
        view=numbers["view"],
        sequence=fields.get("sequence") or "",
        frame=numbers["frame"],
        extra=extra,
    )
