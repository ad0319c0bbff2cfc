"""Files that are either whole or absent: write beside, flush, rename."""

from __future__ import annotations

import csv
import errno
import functools
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from pipeline.artifacts.leases import this_kernel
from pipeline.terminal.errors import DamagedFile, ReidpipeError

# What is asked of a disk after a library failed to write: more than a block of any of them.
_PROBE = 1 << 17
# Earlier versions named no machine, and the log of a step needs none.
_TEMPORARY = re.compile(r"\.(.+)\.tmp-\d+(?:-[0-9a-f]+)?")


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it over.

    Whatever goes wrong inside (a full disk included), the temporary file is removed, ``path``
    keeps its old content and the exception propagates; as an OSError with its number where the
    disk takes no more and a library has words of its own for that (numpy, HDF5, PIL, torch).
    What killed processes of this machine left of the same ``path`` is removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_left(path)
    temporary = beside(path)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        # Some libraries write a file that its owner alone may read; a workspace is shared.
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        refused = _refused(temporary, error)
        temporary.unlink(missing_ok=True)
        if refused is not None:
            raise OSError(refused.errno, refused.strerror, str(path)) from error
        raise
    flush_folder(path.parent)


def beside(path: Path) -> Path:
    """The temporary name of a file, or folder, that this process is to put in place at ``path``.
    Process ids are of a machine: other machines may have the same in the same folder.
    """
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{_machine()}")


def meant(name: str) -> str | None:
    """The name of the file that a temporary one (``beside``) is to become; None for other names."""
    found = _TEMPORARY.fullmatch(name)
    return found[1] if found else None


def _refused(temporary: Path, error: BaseException) -> OSError | None:
    """The disk's own error, where it takes no more and ``error`` does not say so by number."""
    told = isinstance(error, OSError) and error.errno is not None
    if told or not isinstance(error, Exception) or isinstance(error, ReidpipeError):
        return None
    try:
        with temporary.open("ab") as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as refused:
        return refused
    return None


def _drop_left(path: Path) -> None:
    """Delete temporary files of ``path`` whose writer, a process of this machine, is gone."""
    begin, end = f".{path.name}.tmp-", f"-{_machine()}"
    with os.scandir(path.parent) as entries:
        left = [e.name for e in entries if e.name.startswith(begin) and e.name.endswith(end)]
    for name in left:
        pid = name.removeprefix(begin).removesuffix(end)
        if pid.isdecimal() and not _is_alive(int(pid)):
            path.with_name(name).unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@functools.cache
def _machine() -> str:
    """Where process numbers have the same meaning, as 8 hex digits: of other machines' temporary
    files in a shared folder nobody here knows whether their writers live.
    """
    return f"{crc32(this_kernel().encode()):08x}"


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
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        # Piece by piece: the text of a million names would be held twice.
        for piece in json.JSONEncoder(indent=2, sort_keys=True).iterencode(value):
            file.write(piece)
        file.write("\n")


def write_csv(path: Path | str, rows: Iterable[Sequence[Any]]) -> None:
    """Replace ``path`` by ``rows`` as comma-separated UTF-8 lines, atomically; None is empty."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        # Before Python 3.13 the writer leaves a lone carriage return bare, which readers take for
        # the end of a line.
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in rows:
            returns = any(isinstance(value, str) and "\r" in value for value in row)
            (quoting if returns else writer).writerow(row)


def parse_json(text: str | bytes, *, by_hand: bool = False) -> Any:
    """The JSON value of a text, UTF-8 where it is bytes. Raises ValueError for any other, also for
    one nested deeper than Python goes, and for a key that a person wrote twice (``by_hand``).
    """
    once = _each_once if by_hand else None
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=once)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(n for n in names if names.count(n) > 1)}' stands twice")
    return found


def read_json(path: Path | str) -> Any:
    """The JSON value stored at ``path``. Raises DamagedFile when it holds no JSON."""
    try:
        return parse_json(Path(path).read_bytes())
    except ValueError as error:
        raise DamagedFile(
            f"found {path} damaged ({error}); expected JSON; type reidpipe cache verify --repair"
        ) from error


def read_plain(path: Path, largest: int) -> bytes:
    """The first ``largest`` bytes of a file that somebody may be writing, or may have put there to
    be read: links are not followed, and pipes not waited for. Raises OSError for what is no file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "no plain file", str(path))
        return file.read(largest)


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
