"""A folder that nobody reads later: what local workers write, certificates of a started cluster."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.artifacts.locks import holding, is_held

PREFIX = "reidpipe-workers-"


@contextlib.contextmanager
def scratch(place: Path | None = None, prefix: str = PREFIX) -> Iterator[Path]:
    """An empty folder in ``place`` (None: the temporary folder) that this user alone can enter; it
    goes when this is left. Those that killed commands of this user have left go before.
    """
    place = place or Path(tempfile.gettempdir())
    _sweep(place, prefix)
    name = prefix + secrets.token_hex(8)
    # A name nobody can guess: in a folder that all may write a link could stand there.
    lock = place / f"{name}.lock"
    try:
        with holding(lock, None):
            folder = place / name
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.unlink(missing_ok=True)


def _sweep(place: Path, prefix: str) -> None:
    """The lock, which dies with its holder, is there before its folder."""
    for folder in place.glob(f"{prefix}*/"):
        lock = folder.with_name(f"{folder.name}.lock")
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid() or is_held(lock):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
            lock.with_suffix(".lease").unlink(missing_ok=True)
