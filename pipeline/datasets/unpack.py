"""Unpacking that trusts no archive: zip and tar, into a folder that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from tarfile import HeaderError, ReadError
from typing import IO, Self

from pipeline.artifacts import atomic
from pipeline.datasets.layouts.rows import is_skipped
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.machine import tells_of_content

_BLOCK = 1 << 20
_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".rar", ".7z")
# Whole archives that Python does not unpack, by their first bytes.
_FOREIGN = {b"Rar!\x1a\x07": "RAR", b"7z\xbc\xaf\x27\x1c": "7z"}
# Photographs barely compress; label maps and text do, by less than this.
_EXPANSION = 50
_SPARE = 1 << 30
_MEMBERS = 5_000_000


class UnpackError(ReidpipeError):
    """An archive that is damaged, or that asks for more than files inside its own folder."""


class _Member(tarfile.TarInfo):
    """A member whose damaged header is an error; tarfile takes one for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except HeaderError as error:
            if any(buf):
                raise ReadError(str(error)) from error
            raise  # empty or zeros: the true end


class DamagedArchive(UnpackError):
    """An archive that is not whole: getting it again may help."""


@dataclass
class _Budget:
    """What an archive may still write."""

    archive: Path
    bytes_left: int
    members_left: int

    def member(self) -> None:
        self.members_left -= 1
        if self.members_left < 0:
            raise UnpackError(
                f"{self.archive}: found more members than allowed; expected a dataset; "
                "unpack it yourself and type `reidpipe prepare ID --root DIR`"
            )

    def spend(self, count: int) -> None:
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise UnpackError(
                f"{self.archive}: found more data than an archive of its size should hold; "
                "expected a dataset; unpack it yourself and type `reidpipe prepare ID --root DIR`"
            )


def unpack(
    archives: Sequence[Path],
    target: Path,
    *,
    max_bytes: int | None = None,
    max_members: int = _MEMBERS,
) -> None:
    """Unpack all ``archives`` into the new folder ``target``; plain files are copied into it.

    Formats are found by content: zip, and tar plain or compressed with gzip, bzip2 or xz.
    Leftovers of desktops (``__MACOSX``, ``._*``, ``.DS_Store``, ``Thumbs.db``) are skipped.
    Each archive may write ``max_bytes`` (default: 50 times its own size plus 1 GiB) in at most
    ``max_members`` files. ``target`` is renamed into place at the end: whatever goes wrong, a full
    disk (OSError) included, it does not appear. Once it has appeared it outlasts a power cut.
    Raises UnpackError for a member outside the folder, a link, a device, an encrypted archive, one
    beyond the limits, or one of RAR or 7z; DamagedArchive for one that is not whole; ReidpipeError
    when ``target`` exists.
    """
    if target.exists():
        raise ReidpipeError(
            f"found {target} already; expected no such folder; move it away and try again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = atomic.beside(target)
    try:
        temporary.mkdir()
        for archive in archives:
            limit = archive.stat().st_size * _EXPANSION + _SPARE if max_bytes is None else max_bytes
            _unpack_one(archive, temporary, _Budget(archive, limit, max_members))
        # All bytes are on disk before the name vouches for them. One flush of everything: flushing
        # each file takes 3 ms, an hour for ImageNet.
        os.sync()
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    atomic.flush_folder(target.parent)


def _unpack_one(archive: Path, folder: Path, budget: _Budget) -> None:
    with _plainly(archive):
        # tar first: a tar whose last member is a zip looks like that zip from its end.
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive, tarinfo=_Member) as opened:
                _unpack_tar(opened, folder, budget)
            return
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _unpack_zip(opened, folder, budget)
            return
        with archive.open("rb") as file:
            start = file.read(64)
        foreign = next((kind for sign, kind in _FOREIGN.items() if start.startswith(sign)), None)
        if foreign is not None:
            raise UnpackError(
                f"found a {foreign} archive, {archive}; expected zip or tar; unpack it yourself "
                "and type `reidpipe prepare ID --root DIR`"
            )
        if archive.name.lower().endswith(_ARCHIVES):
            start = start.lstrip().lower()
            what = "a web page" if start.startswith(b"<") else "no whole zip or tar archive"
            raise DamagedArchive(
                f"found {what} in {archive} ({archive.stat().st_size} bytes); expected the "
                "archive as published; get it again"
            )
        with archive.open("rb") as source:
            _write(source, folder, PurePosixPath(archive.name), budget)


@contextmanager
def _plainly(archive: Path) -> Iterator[None]:
    """Turn what the standard library raises for damaged archives into one line."""
    try:
        yield
    except (
        zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, NotImplementedError,
        UnicodeDecodeError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedArchive(
            f"found a damaged archive {archive} ({reason}); expected a whole one; get it again"
        ) from error
    except OSError as error:
        if not tells_of_content(error):
            raise
        raise DamagedArchive(
            f"found a damaged archive {archive} ({error}); expected a whole one; get it again"
        ) from error


def _unpack_zip(opened: zipfile.ZipFile, folder: Path, budget: _Budget) -> None:
    members = opened.infolist()
    # Sizes promised in the directory are checked before the first byte is written.
    promised = sum(member.file_size for member in members)
    if promised > budget.bytes_left:
        budget.spend(promised)
    for member in members:
        budget.member()
        path = _inside(member.orig_filename, budget.archive)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused("a link or device", member.filename, budget.archive)
        if path is None or member.is_dir():
            continue
        if member.flag_bits & 1:
            raise _refused("an encrypted file", member.filename, budget.archive)
        with opened.open(member) as source:
            _write(source, folder, path, budget)


def _unpack_tar(opened: tarfile.TarFile, folder: Path, budget: _Budget) -> None:
    for member in opened:
        budget.member()
        path = _inside(member.name, budget.archive)
        if not (member.isreg() or member.isdir()):
            raise _refused("a link or device", member.name, budget.archive)
        if path is None or member.isdir():
            continue
        source = opened.extractfile(member)
        assert source is not None
        if _write(source, folder, path, budget) != member.size:
            raise ReadError(f"{member.name} is cut short")
    # gzip, bzip2 and xz verify their checksums only at the end of the stream, which lies behind
    # the last member.
    assert opened.fileobj is not None
    while block := opened.fileobj.read(_BLOCK):
        budget.spend(len(block))


def _inside(name: str, archive: Path) -> PurePosixPath | None:
    """The member's path below the target; None for clutter; UnpackError for one outside."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise _refused("a path outside the folder", name, archive)
    if not path.parts or any(map(is_skipped, path.parts)):
        return None
    return path


def _refused(what: str, name: str, archive: Path) -> UnpackError:
    return UnpackError(
        f"{archive}: found {what}, {name!r}; expected plain files and folders; "
        "look at it before you unpack it yourself"
    )


def _write(source: IO[bytes], folder: Path, path: PurePosixPath, budget: _Budget) -> int:
    target = folder / path
    written = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("wb")
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise _refused("a name that is both file and folder", str(path), budget.archive) from error
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise
        raise _refused("a name this disk cannot hold", str(path), budget.archive) from error
    with file:
        while block := source.read(_BLOCK):
            # The real bytes count, not what the archive's directory promises.
            budget.spend(len(block))
            file.write(block)
            written += len(block)
    return written
