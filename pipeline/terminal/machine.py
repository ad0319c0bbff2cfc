"""What the machine refuses, as one line: full disks, closed files, paths that lead nowhere.

The only place that decides which errors of the operating system are told in one line. All others
are mistakes of this program and keep their traceback.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

# As torch says it, of the machine and of a GPU.
_NO_MEMORY = re.compile(r"not enough memory|out of memory|can't allocate memory", re.IGNORECASE)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def of_the_machine(error: BaseException | None) -> str | None:
    """What to tell of a failure that the machine is the cause of; None for any other.

    Libraries wrap such an error (torch) or know its text alone (safetensors), so the chain of
    causes is searched for number and text.
    """
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        name = error.filename if isinstance(error, OSError) else None
        if number in _FULL or os.strerror(errno.ENOSPC) in str(error):
            return _full(name)
        if number in _TOLD:
            return _TOLD[number](name, os.strerror(number))
        told = _without_number(error)
        if told is not None:
            return told
        error = error.__cause__ or error.__context__
    return None


def tells_of_content(error: OSError) -> bool:
    """Whether an error of reading a file tells of what is in it, and not of the disk: libraries'
    own have no number, and a place before the file's first byte, in a damaged zip, is EINVAL.
    """
    return error.errno in (None, errno.EINVAL)


def _without_number(error: BaseException) -> str | None:
    """Errors of Python itself that mean a path which the machine cannot have."""
    text = str(error)
    if isinstance(error, RuntimeError) and "home directory" in text:
        return (
            "found a path that begins with ~ and no home folder for it; expected a user of this "
            "machine; type the path in full, or set HOME"
        )
    if isinstance(error, RuntimeError) and text.startswith("Symlink loop"):
        return _no_path(text.removeprefix("Symlink loop from ").strip("'"), "a link to itself")
    if isinstance(error, OverflowError):
        return (
            f"found a number that is too large here ({text}); expected one that the machine can "
            "count to; type a smaller one"
        )
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return (
            f"found too little memory ({text.splitlines()[0][:120] if text else 'none is left'}); "
            "expected room for what was asked; type a smaller batch, --size or --workers"
        )
    if isinstance(error, ValueError) and "embedded null" in text:
        return (
            "found a path with a null character; expected one that the machine can have; type "
            "another"
        )
    return None


def _full(name: object) -> str:
    return (
        f"found the disk full{f' at {name}' if name else ''}; expected room for the artifact; "
        "free some space (reidpipe cache ls shows what is large) and type the same command again"
    )


def _closed(name: object, why: str) -> str:
    return (
        f"found {name or 'a file'} closed to you ({why}); expected a place you may read and "
        "write; change its permissions, or type --workspace DIR"
    )


def _in_the_way(name: object, why: str) -> str:
    return (
        f"found {name or 'something'} in the way ({why}); expected a folder where a folder belongs "
        "and a file where a file does; move it away, or type another --out or --workspace"
    )


def _too_large(name: object, why: str) -> str:
    return (
        f"found {name or 'a file'} too large for its disk ({why}); expected what fits on it; type "
        "a smaller --size, or --workspace DIR on another disk"
    )


def _no_path(name: object, why: str) -> str:
    return (
        f"found the path {name or '?'}, which the machine cannot follow ({why}); expected one that "
        "leads to a file or folder; type another"
    )


def _gone(name: object, why: str) -> str:
    return (
        f"found {name or 'the working folder'} gone ({why}); expected it to stay while a command "
        "runs; put it back, or type another, and the same command again"
    )


def _no_disk(name: object, why: str) -> str:
    return (
        f"found the disk or what is in its place failing{f' at {name}' if name else ''} ({why}); "
        "expected one that reads and writes; look after it, or type --workspace DIR on another"
    )


_TOLD: dict[int, Callable[[object, str], str]] = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _closed),
    **dict.fromkeys((errno.EEXIST, errno.EISDIR, errno.ENOTDIR), _in_the_way),
    errno.EFBIG: _too_large,
    **dict.fromkeys((errno.ELOOP, errno.ENAMETOOLONG), _no_path),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE), _gone),
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV), _no_disk),
}
