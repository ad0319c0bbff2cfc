"""Image files of an index: read as the bytes that were indexed, or not at all."""

from __future__ import annotations

import errno
import hashlib
import shlex
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.terminal.errors import ChangedFile, ReidpipeError


class DamagedImage(ReidpipeError):
    """A file that is no image, is cut short or is missing; the message names it."""


class ChangedImage(DamagedImage, ChangedFile):
    """A file with other bytes than when it was indexed; the message names it, as does ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"found other bytes in {path} than when it was indexed; expected an unchanged dataset; "
            f"put the file back, or type touch {shlex.quote(str(path))} and the same command "
            "again, which then indexes anew"
        )
        self.path = path

    def __reduce__(self) -> tuple[type[ChangedImage], tuple[Path]]:
        # Errors of worker processes come back by their message, which is none of the arguments.
        return type(self), (self.path,)


class Original(NamedTuple):
    """path: of an image file. digest: SHA-256 hex of its bytes when it was indexed; empty where
    nobody knows, and then nothing is compared.
    """

    path: Path
    digest: str

    def read(self) -> bytes:
        """The file's bytes. Raises DamagedImage where there is none, ChangedImage for others."""
        data = read_bytes(self.path)
        if self.digest and hashlib.sha256(data).hexdigest() != self.digest:
            raise ChangedImage(self.path)
        return data


def read_bytes(path: Path) -> bytes:
    """A file's bytes; DamagedImage names one that is missing or no plain file, such as a pipe, for
    whose bytes one would wait for ever.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DamagedImage(f"found no plain file at {path}; expected an image")
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a third of Path's time
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DamagedImage(f"found no file at {path}; expected an image") from error
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link to itself leads to nothing
            raise
        raise DamagedImage(f"found a link to itself at {path}; expected an image") from error


def changed(originals: Iterable[Original]) -> Iterator[ChangedImage]:
    """An error for each file that has other bytes than when it was indexed. Those that are gone or
    cannot be read are passed over: who decodes them says so.
    """
    for original in originals:
        try:
            original.read()
        except ChangedImage as error:
            yield error
        except DamagedImage:
            pass


def check_originals(originals: Iterable[Original]) -> None:
    """Raise ChangedImage for the first file of ``changed``."""
    for error in changed(originals):
        raise error
