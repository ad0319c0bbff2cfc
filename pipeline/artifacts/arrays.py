"""Arrays on disk, .npy and .npz: a writer, and a reader, which runs nothing that lies in a file."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import atomic
from pipeline.artifacts.checked import checked
from pipeline.terminal.errors import DamagedFile
from pipeline.terminal.machine import tells_of_content

# numpy reports a header that is none, or lies about what follows, as any of these.
_DAMAGE = (
    ValueError, TypeError, KeyError, EOFError, SyntaxError, OverflowError, MemoryError,
    RecursionError, NotImplementedError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def map_array(path: Path, expected: str) -> np.ndarray:
    """An .npy file as a read-only memory map, none of it read. expected: what it should be, for the
    message. Raises DamagedFile for one that is cut, holds objects or is something else.
    """
    checked(path)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        # An .npz opens too, as a mapping.
        if not isinstance(found, np.ndarray):
            found.close()
            raise ValueError("several arrays")
    except _DAMAGE as error:
        raise _damaged(path, expected, error) from error
    except OSError as error:
        if not tells_of_content(error):
            raise
        raise _damaged(path, expected, error) from error
    return found


def read_arrays(path: Path, shapes: Mapping[str, tuple[str, int]]) -> dict[str, np.ndarray]:
    """Arrays of an .npz file by name: those of ``shapes`` (the kinds of their type, as numpy's
    letters, and how many axes they have) that it holds.

    Raises DamagedFile for a file that cannot be read and for an array of another kind.
    """
    wanted = f"an array of each of {', '.join(shapes)}"
    checked(path)
    found: dict[str, np.ndarray] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for name, (kinds, axes) in shapes.items():
                if name in file.files:
                    values = file[name]
                    if values.dtype.kind not in kinds or values.ndim != axes:
                        raise ValueError(f"{name} of {values.dtype} {values.shape}")
                    found[name] = values
    except _DAMAGE + (AttributeError,) as error:
        raise _damaged(path, wanted, error) from error
    except OSError as error:
        if not tells_of_content(error):
            raise
        raise _damaged(path, wanted, error) from error
    return found


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], *, plain: Collection[str] = ()
) -> None:
    """Replace ``path`` by an .npz file atomically; equal arrays give equal bytes. Those named in
    ``plain`` are stored as they are, the others deflated at the fastest level: numbers that have
    nothing to deflate take most of the time of a file.
    """
    with (
        atomic.replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", compresslevel=1) as file,
    ):
        for name, values in arrays.items():
            file.compression = zipfile.ZIP_STORED if name in plain else zipfile.ZIP_DEFLATED
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, values, allow_pickle=False)


def _damaged(path: Path, expected: str, error: Any) -> DamagedFile:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return DamagedFile(
        f"found {path} damaged ({reason}); expected {expected}; type reidpipe cache verify "
        "--repair, or make it again"
    )
