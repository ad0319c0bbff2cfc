"""Files that are either whole or absent: write beside, flush, rename."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.terminal.errors import DamagedFile


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it over.

    Whatever goes wrong inside (a full disk included), the temporary file is removed, ``path``
    keeps its old content and the exception propagates.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        # Some libraries write a file that its owner alone may read; a workspace is shared.
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Write a folder's names to disk: only then does a rename inside it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path | str, text: str) -> None:
    """Replace ``path`` by UTF-8 ``text`` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Replace ``path`` by ``value`` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def parse_json(text: str | bytes) -> Any:
    """The JSON value of a text, UTF-8 where it is bytes. Raises ValueError for any other, also for
    one nested deeper than Python goes.
    """
    try:
        return json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_json(path: Path | str) -> Any:
    """The JSON value stored at ``path``. Raises DamagedFile when it holds no JSON."""
    try:
        return parse_json(Path(path).read_bytes())
    except ValueError as error:
        raise DamagedFile(
            f"found {path} damaged ({error}); expected JSON; type reidpipe cache verify --repair"
        ) from error


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
