"""Paths that a user types: understood once, and refused in one line where the machine has no such.

All path options and arguments have a type of this file, so that no command meets a path that cannot
be.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import click

from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import printable

SHOWN = 60
# Of a path where nothing is, or nothing yet.
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def typed_path(text: str | os.PathLike[str], called: str = "the path") -> Path:
    """``text`` as a path, ``~`` and ``~user`` opened. called: what it was typed for.

    Raises ReidpipeError for one that no file can have here: with a null character, longer than the
    system allows, through a link to itself, or of a user who has no home.
    """
    raw = os.fspath(text)
    if not raw:
        raise ReidpipeError(f"found nothing for {called}; expected a path; type one")
    if "\0" in raw:
        raise ReidpipeError(
            f"found a null character in {called} {_short(raw)}; expected a path; type another"
        )
    path = Path(raw)
    if raw.startswith("~"):
        try:
            path = path.expanduser()
        except RuntimeError as error:
            if not os.path.lexists(raw):
                raise ReidpipeError(
                    f"found no home folder for {called} {_short(raw)}; expected that of a user of "
                    "this machine; type the path in full"
                ) from error
    try:
        path.stat()
    except OSError as error:
        if error.errno not in _ABSENT:
            raise ReidpipeError(
                f"found {called} {_short(raw)}, which the machine cannot follow "
                f"({error.strerror}); expected a path that leads somewhere; type another"
            ) from error
    return path


def check_out(out: Path, *, folder: bool) -> None:
    """Make the folder that ``out`` is, or else the one it will be a file of: before the long work
    whose result goes there. Raises ReidpipeError where that cannot be, and for a file that is none
    to replace: a device, a pipe, a socket.
    """
    if not folder and out.is_dir():
        raise ReidpipeError(
            f"found the folder {out} for --out; expected a file to write; type --out {out}/NAME"
        )
    if not folder and out.exists() and not out.is_file():
        raise ReidpipeError(
            f"found {_kind(out)} at {out} for --out; expected a file to write; type another --out"
        )
    place = out if folder else out.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReidpipeError(
            f"found no way to make the folder {place} ({error.strerror}); expected one for --out "
            f"{out}; type another --out"
        ) from error
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ReidpipeError(
            f"found the folder {place} for --out, where no file can be made ({error.strerror}); "
            "expected one that you may write in; type another --out"
        ) from error


class TypedPath(click.Path):
    """A ``click.Path`` that gives a ``Path`` of ``typed_path``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises ReidpipeError as ``typed_path``; click's own errors for what options forbid."""
        name = param.get_error_hint(ctx) if param is not None and ctx is not None else "the path"
        return super().convert(typed_path(value, name.replace("'", "")), param, ctx)


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    kinds = {
        stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a disk",
    }  # fmt: skip
    return next((name for asks, name in kinds.items() if asks(mode)), "no plain file")


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
