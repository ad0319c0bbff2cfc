"""Downloads with resume and checksums: the only module that touches the network."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.atomic import flush_folder, write_text
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from requests import Response

    from pipeline.datasets.manifest import Archive, Manifest

log = logging.getLogger(__name__)

_BLOCK = 1 << 16
_TIMEOUT = (15, 60)  # seconds to connect, seconds of silence
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP errors worth another attempt
_ATTEMPTS = 3  # per source, counted anew whenever bytes arrived


class FetchError(ReidpipeError):
    """A file that could not be fetched, or that is not the published one."""


class _SourceFailed(Exception):
    """One source gave up; the next one is tried."""


def fetch_archives(
    manifest: Manifest,
    folder: Path,
    *,
    content: tuple[str, ...] = ("images", "lists", "annotations"),
    progress: bool = False,
) -> list[Path]:
    """Fetch the manifest's archives of the given ``content`` into ``folder``; paths in order.

    Files that are there and correct are kept. Images are fetched under policy ``direct`` only;
    lists and annotations that have an address under every policy but ``never``.
    Raises FetchError when the terms leave fetching to a person (the message says where to ask,
    except for withdrawn datasets), or when no source delivers the published file.
    """
    wanted = [archive for archive in manifest.archives if archive.content in content]
    allowed = manifest.policy == "direct" or (
        manifest.policy != "never" and all(archive.content != "images" for archive in wanted)
    )
    if not wanted or not allowed or not all(archive.urls for archive in wanted):
        raise FetchError(by_hand(manifest))
    return [
        fetch(
            archive,
            folder,
            dataset=manifest.typed,
            progress=progress,
            cure=list_by_hand(manifest) if archive.content == "lists" else None,
        )
        for archive in wanted
    ]


def by_hand(manifest: Manifest) -> str:
    """One line: why nothing is fetched, where to ask, what to type once the files are there."""
    dataset = manifest.typed
    reasons = {
        "never": "was withdrawn by its publisher and is never fetched",
        "request": "is given out on request only",
        "manual": "asks everyone to accept its terms in person",
        "direct": "has no file that can be fetched",
    }
    own_copy = f"type `reidpipe prepare {dataset} --root DIR` with the folder you have"
    if manifest.policy == "never":
        return f"{manifest.title} {reasons['never']}; expected a lawful copy of yours; {own_copy}"
    where = manifest.homepage or manifest.terms_url or "its authors"
    terms = manifest.terms_url
    see = f" (terms: {terms})" if terms and terms != where else ""
    published = ", or `--archive FILE` with the file as published"
    return (
        f"{manifest.title} {reasons[manifest.policy]}; get it from {where}{see}, "
        f"then {own_copy}{published if manifest.archives_suffice else ''}"
    )


def list_by_hand(manifest: Manifest) -> str:
    """Where a published list belongs that a person got, and what to type: it is no archive that
    could be unpacked.
    """
    lists = {archive.name for archive in manifest.archives if archive.content == "lists"}
    needed = [name for layout in manifest.layouts for name in layout.requires if name not in lists]
    place = f"the folder with {needed[0]}" if needed else "the dataset's folder"
    return f"put it into {place} and type `reidpipe prepare {manifest.typed} --root DIR`"


def fetch(
    archive: Archive,
    folder: Path,
    *,
    dataset: str = "ID",
    progress: bool = False,
    cure: str | None = None,
) -> Path:
    """Fetch one published file into ``folder``; returns its path.

    Bytes arrive in ``NAME.part``; a later call, or the next source, continues where a cut
    connection left off. Without a known checksum only the same version is continued: the server's
    name for it (ETag or Last-Modified) stands in ``NAME.part.version``; if it gave none, the
    download starts anew. The file gets its name only after size and checksums are right; one with
    wrong checksums is removed. Sources are tried in turn. cure: what to do with a file that a
    person got, where that is not ``--archive``.
    Raises FetchError naming every source with its failure; OSError when the disk is full (what
    has arrived stays in the ``.part`` file).
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / archive.name, folder / f"{archive.name}.part"
    if target.is_file():
        verify_archive(target, archive, dataset=dataset)
        return target
    failures = []
    for url in archive.urls:
        resumed = part.is_file() and part.stat().st_size > 0
        try:
            _download(url, part, archive, progress=progress)
            try:
                _accept(part, archive)
            except _SourceFailed:
                # The old part may come from another version of the file: once more from zero.
                _remove(part)
                if not resumed:
                    raise
                _download(url, part, archive, progress=progress)
                _accept(part, archive, remove=True)
        except _SourceFailed as failure:
            if url != archive.urls[-1]:  # of the last the error tells
                log.warning("%s: %s", url, failure)
            failures.append(f"{url}: {failure}")
            continue
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
        flush_folder(folder)
        _version_file(part).unlink(missing_ok=True)
        return target
    tried = "; ".join(failures) or "no source is known"
    cure = cure or f"type `reidpipe prepare {dataset} --archive {archive.name}`"
    raise FetchError(
        f"could not fetch {archive.name} ({tried}); expected one source to deliver the published "
        f"file; try again later, or get it by hand and {cure}"
    )


def verify_archive(path: Path, archive: Archive, *, dataset: str = "ID") -> None:
    """Check that ``path`` is the published file: size, MD5, SHA-256, as far as they are known.

    Raises FetchError saying what was found and what was expected. The file is left untouched.
    """
    if not path.is_file():
        raise FetchError(
            f"found no file {path.absolute()}; expected {archive.name}; "
            f"type `reidpipe prepare {dataset} --archive FILE`"
        )
    wrong = _difference(path, archive)
    if wrong:
        raise FetchError(
            f"{path}: {wrong}, so it is not the published {archive.name}; get it again, or "
            f"unpack it yourself and type `reidpipe prepare {dataset} --root DIR`"
        )


def _difference(path: Path, archive: Archive) -> str | None:
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        return f"found {size} bytes, expected {archive.size}"
    expected = {"sha256": archive.sha256, "md5": archive.md5}
    for name, value in expected.items():
        if value is not None:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, name).hexdigest()
            if found != value:
                return f"found {name} {found}, expected {value}"
    return None


def _accept(part: Path, archive: Archive, *, remove: bool = False) -> None:
    wrong = _difference(part, archive)
    if wrong:
        if remove:
            _remove(part)
        raise _SourceFailed(f"{wrong}, file removed")


def _download(url: str, part: Path, archive: Archive, *, progress: bool) -> None:
    """Bring ``part`` to its full length; _SourceFailed when this source cannot."""
    import requests

    attempt, furthest = 0, 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        if archive.size is not None and before == archive.size:
            return
        try:
            _stream(url, part, archive, progress=progress)
            return
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            after = part.stat().st_size if part.is_file() else 0
            # What only came to where it was before it began from zero would do so for ever.
            attempt = 0 if after > max(before, furthest) else attempt + 1
            furthest = max(before, furthest, after)
            answer = getattr(error, "response", None)
            refused = answer is not None and answer.status_code not in _PASSING
            if refused or attempt >= _ATTEMPTS:
                raise _SourceFailed(_reason(error)) from error
            log.info("%s: %s; continuing at byte %d", url, _reason(error), after)
            time.sleep(min(0.1 * 2**attempt, 10))


def _stream(url: str, part: Path, archive: Archive, *, progress: bool) -> None:
    """One request: append to ``part`` what is missing, or start over if the server must."""
    import requests

    # Compression on the way would make byte positions meaningless.
    headers = {"Accept-Encoding": "identity"}
    checked = archive.md5 is not None or archive.sha256 is not None
    version = None
    if not checked:
        # Nothing would tell a file spliced from two versions.
        version = _stored_version(part)
        if version is None:
            _remove(part)
        else:
            headers["If-Range"] = version
    have = part.stat().st_size if part.is_file() else 0
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416 and have:
            # Nothing behind byte `have`: complete, or longer than the file; the checksum decides.
            total = _total(answer)
            if total == have:
                return
            _remove(part)
            raise requests.ConnectionError(f"found {have} bytes, the server has {total}")
        answer.raise_for_status()
        continued = answer.status_code == 206 and _start(answer) == have
        # Some servers know ranges but not If-Range.
        continued = continued and version in (None, _version(answer))
        if answer.status_code == 206 and not continued:
            _remove(part)
            raise requests.ConnectionError("the server sent another part than asked for")
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise _SourceFailed("a web page in place of the file")
        have = have if continued else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        limit = archive.size
        if limit is not None and total is not None and total != limit:
            raise _SourceFailed(f"found {total} bytes, expected {limit}")
        _need(part, (total or limit or have) - have)
        if not continued:
            _remove(part)
            if not checked and (version := _version(answer)):
                write_text(_version_file(part), version)
        with (
            part.open("ab" if continued else "wb") as file,
            _bar(part, have, total, progress) as bar,
        ):
            for block in _blocks(answer):
                have += len(block)
                if limit is not None and have > limit:
                    _remove(part)
                    raise _SourceFailed(f"found more than the expected {limit} bytes")
                file.write(block)
                bar.update(len(block))
        if total is not None and have != total:
            raise requests.ConnectionError(f"connection cut at byte {have} of {total}")


def _blocks(answer: Response) -> Iterator[bytes]:
    """The body as it was sent: positions are those of the file on the server, which some call
    compressed (``Content-Encoding``) where the file itself is. Raises requests' errors.
    """
    import requests
    from urllib3.exceptions import HTTPError

    try:
        yield from answer.raw.stream(_BLOCK, decode_content=False)
    except HTTPError as error:
        raise requests.ConnectionError(error) from error


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _stored_version(part: Path) -> str | None:
    path = _version_file(part)
    return path.read_text(encoding="utf-8") if path.is_file() and part.is_file() else None


def _version(answer: Response) -> str | None:
    """What the server calls this version of the file: a strong ETag, else its date."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _remove(part: Path) -> None:
    # The part first: bytes without a version are never continued.
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _total(answer: Response) -> int | None:
    text = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text.isdecimal() else None


def _start(answer: Response) -> int | None:
    text = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(text) if text.isdecimal() else None


def _need(part: Path, size: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {free} of {size} bytes", part)


def _bar(part: Path, have: int, total: int | None, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(
        desc=part.stem, initial=have, total=total, unit="B", unit_scale=True, file=sys.stderr,
        disable=not (progress and sys.stderr.isatty()),
    )  # fmt: skip


def _reason(error: Exception) -> str:
    answer = getattr(error, "response", None)
    if answer is not None:
        return f"HTTP {answer.status_code} {answer.reason}"
    cause: BaseException = error
    while True:
        reason = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None)
        if not isinstance(reason, BaseException):
            break
        cause = reason
    text = " ".join(str(cause).split())
    return text.rpartition(": ")[2] or type(cause).__name__
