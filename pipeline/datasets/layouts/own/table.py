"""A table of images: one's own, or as other tools write it."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from pipeline.datasets.layouts.own.found import Found, Tale
from pipeline.datasets.layouts.own.words import (
    COLUMN_WORDS,
    COLUMNS,
    SPLITS,
    TEST,
    is_nobody,
    spelled,
    split_of,
    whole,
)
from pipeline.datasets.layouts.rows import read_text
from pipeline.terminal.errors import ReidpipeError, nearest

SEPARATORS = (",", ";", "\t")
# What an index has of its own is measured anew; a column without a name counts the rows.
IGNORED_COLUMNS = ("key", "width", "height", "digest")
FLAGS = ("is_query", "is_gallery")
_YES, _NO = ("true", "1", "1.0", "yes"), ("", "false", "0", "0.0", "no", "nan", "none")
_SHOWN = 80


@dataclass(frozen=True)
class _Columns:
    """Which field of a line is what. names: column of the index -> position in the line."""

    header: list[str]
    places: Mapping[str, int]
    flags: Mapping[str, int]

    def extra(self, fields: Sequence[str]) -> dict[str, str]:
        used = {*self.places.values(), *self.flags.values()}
        return {
            name: fields[place]
            for place, name in enumerate(self.header)
            if place not in used and name not in ("", *COLUMNS, *IGNORED_COLUMNS)
        }


def read_table(table: Path, tale: Tale) -> list[Found]:
    """The images of a CSV with ``,`` ``;`` or tabs between its fields, relative to its folder.

    Columns are those of ``index.csv`` (``path`` is enough) or what other tools call them, which is
    told; so are words for splits. ``is_query`` and ``is_gallery`` may make an image both.
    Raises ReidpipeError for other files, unknown splits, files that are absent or outside, naming
    the line.
    """
    text = read_text(table, "a table in UTF-8; save it as CSV UTF-8")
    columns, separator = _columns(text, table, tale)
    splits: Counter[tuple[str, str]] = Counter()
    try:
        found = list(_images(text, separator, columns, table, splits))
    except csv.Error as error:
        raise ReidpipeError(
            f"{table}: found no CSV ({error}); expected lines of fields with "
            f"{_named(separator)} between; save it as CSV UTF-8"
        ) from error
    if not found:
        raise ReidpipeError(f"{table}: found no rows; expected one per image")
    twice = [key for key, n in Counter((row.path, row.split) for row in found).items() if n > 1]
    if twice:
        raise ReidpipeError(
            f"{table}: found {twice[0][0]} twice in split {twice[0][1]}; expected each image once "
            "per split"
        )
    tale.layout = "table"
    read = [f"{word} as {split}" for word, split in splits if word != split and word]
    if read:
        tale.notes.append(f"splits by other names: {', '.join(sorted(read))}")
    return _settled(found, table)


def _columns(text: str, table: Path, tale: Tale) -> tuple[_Columns, str]:
    first = text.partition("\n")[0].strip("\r ")  # a tab is the separator after a nameless column
    header, separator = next(
        ((h, s) for s in SEPARATORS if "path" in _places(h := _header(first, s))), ([], ",")
    )
    if not header:
        shown = first[:_SHOWN] + ("..." if len(first) > _SHOWN else "")
        kind = f"no column path in the first line, '{shown}'"
        if first[:1] in ("{", "["):
            kind = "JSON"
        raise ReidpipeError(f"{table}: found {kind}; expected {_wanted()}")
    places = _places(header)
    if len(set(header)) < len(header):
        raise ReidpipeError(
            f"{table}: found the columns {','.join(header)}; expected a column path and any of "
            f"{','.join(COLUMNS[1:])}, each once"
        )
    renamed = [
        f"{header[place]} as {name}" for name, place in places.items() if header[place] != name
    ]
    if renamed:
        tale.notes.append(f"columns by other names: {', '.join(renamed)}")
    if separator != ",":
        tale.notes.append(f"fields are separated by {_named(separator)}")
    flags = {name: header.index(name) for name in FLAGS if name in header}
    return _Columns(header, places, flags), separator


def _header(line: str, separator: str) -> list[str]:
    try:
        names = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # a field of more characters than any column's name has
        return []
    return [name.strip() for name in names]


def _places(header: Sequence[str]) -> dict[str, int]:
    lower = [name.lower() for name in header]
    places = {}
    for column in COLUMNS:
        word = next((w for w in (column, *COLUMN_WORDS.get(column, ())) if w in lower), None)
        # A class's number is no person's.
        if word is not None and not (word == "label" and "class" in lower):
            places[column] = header.index(column) if column in header else lower.index(word)
    return places


def _named(separator: str) -> str:
    return {",": "commas", ";": "semicolons", "\t": "tabs"}[separator]


def _wanted() -> str:
    return (
        f"a first line with the names of the columns, path and any of {','.join(COLUMNS[1:])}, and "
        "then a line per image, with commas, semicolons or tabs between; write such a CSV"
    )


def _images(
    text: str, separator: str, columns: _Columns, table: Path, splits: Counter[tuple[str, str]]
) -> Iterator[Found]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    next(reader)
    for fields in reader:
        if not fields or not any(field.strip() for field in fields):
            continue
        where = f"{table} line {reader.line_num}"
        if len(fields) != len(columns.header):
            raise ReidpipeError(
                f"{where}: found {len(fields)} fields; expected {len(columns.header)}, as in the "
                "first line; put quotes around a field with a separator in it"
            )
        yield from _image(fields, columns, where, table.parent, splits)


def _image(
    fields: Sequence[str],
    columns: _Columns,
    where: str,
    root: Path,
    splits: Counter[tuple[str, str]],
) -> Iterator[Found]:
    given = {name: fields[place].strip() for name, place in columns.places.items()}
    numbers: dict[str, int | None] = {}
    for name in ("view", "frame"):
        numbers[name] = _number(given.get(name, ""), name, where)
    extra = columns.extra(fields)
    person = given.get("pid", "")
    if not person and (person := extra.get("identity", "")):
        del extra["identity"]
    image = Found(
        path=_path(given["path"], where, root),
        split="",
        person=person,
        camera=_camera(given.get("camid", ""), columns, where),
        view=numbers["view"],
        frame=numbers["frame"],
        sequence=given.get("sequence", ""),
        extra=extra,
    )
    for split in _splits(fields, given.get("split", ""), columns, where, splits):
        yield replace(image, split=split)


def _splits(
    fields: Sequence[str],
    word: str,
    columns: _Columns,
    where: str,
    splits: Counter[tuple[str, str]],
) -> Iterator[str]:
    split = split_of(word) if word and not is_nobody(word) else ""
    if split is None:
        raise ReidpipeError(
            f"{where}: found split '{word}'{nearest(word, SPLITS)}; expected {', '.join(SPLITS)}"
        )
    chosen = [
        flag.removeprefix("is_")
        for flag, place in columns.flags.items()
        if _is_set(fields[place], flag, where)
    ]
    if chosen and split == "train":
        raise ReidpipeError(
            f"{where}: found split '{word}' and is_{chosen[0]}; expected one of them; correct it"
        )
    if not chosen:
        splits[word, split or "train"] += 1
    yield from chosen or [split or "train"]


def _is_set(text: str, flag: str, where: str) -> bool:
    if (lower := text.strip().lower()) not in (*_YES, *_NO):
        raise ReidpipeError(f"{where}: found {flag} '{text.strip()}'; expected true or false")
    return lower in _YES


def _settled(found: list[Found], table: Path) -> list[Found]:
    """``test`` beside queries is their gallery; alone it stays, for queries to be drawn from it."""
    splits = {image.split for image in found}
    if TEST not in splits or not splits & {"query", "gallery"}:
        return found
    if "gallery" in splits:
        raise ReidpipeError(
            f"{table}: found the splits {', '.join(sorted(splits))}; expected test images to be "
            "query or gallery; correct the column split"
        )
    return [replace(i, split="gallery") if i.split == TEST else i for i in found]


def _number(text: str, name: str, where: str) -> int | None:
    number = whole(text)
    if number is None and not is_nobody(text):
        raise ReidpipeError(
            f"{where}: found {name} '{text}'; expected a number of at most 18 digits or nothing"
        )
    return number


def _camera(text: str, columns: _Columns, where: str) -> str:
    name = columns.header[columns.places["camid"]] if "camid" in columns.places else ""
    if is_nobody(text):
        return ""
    if name == "camid":
        number = _number(text, name, where)
        return "" if number is None else str(number)
    number = whole(text)
    return spelled(text) if number is None else str(number)


def _path(text: str, where: str, root: Path) -> str:
    """The posix path of an image below ``root``, as the disk spells it."""
    if not (root / text).is_file() and "\\" in text:
        text = text.replace("\\", "/")
    pure = PurePosixPath(text)
    if pure.is_absolute():
        for folder in (root, root.resolve()):
            if pure.is_relative_to(folder):
                pure = pure.relative_to(folder)
                break
    if not text or pure.is_absolute() or ".." in pure.parts or PureWindowsPath(text).drive:
        raise ReidpipeError(
            f"{where}: found path '{text}'; expected one relative to {root}, where the table lies"
        )
    for form in ("NFC", "NFD"):
        path = unicodedata.normalize(form, pure.as_posix())
        if (root / pure).is_file():
            return pure.as_posix()
        if (root / path).is_file():
            return path
    raise ReidpipeError(f"{where}: found no file {root / pure}; expected an image")


def tell_sheet(path: Path) -> None:
    """Raise ReidpipeError for a workbook of a spreadsheet, whose bytes are no text."""
    with path.open("rb") as file:
        begins = file.read(8)
    if begins.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ReidpipeError(
            f"{path}: found a workbook or an archive; expected {_wanted()}: in a spreadsheet save "
            "it as CSV UTF-8"
        )
