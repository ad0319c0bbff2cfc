"""A published file of weights: found in a folder or downloaded, and the published bytes."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.artifacts.atomic import sha256_file
from pipeline.datasets.fetch import FetchError, fetch
from pipeline.datasets.manifest import Archive
from pipeline.terminal.errors import ReidpipeError


def published_file(
    url: str,
    sha256: str,
    weights: Path | None,
    *,
    cache: Path,
    what: str,
    source: str,
    instead: str = "--pretrained none",
) -> Path:
    """The file of ``url`` from ``weights``, ``$REIDPIPE_WEIGHTS`` or ``cache``, where the library
    of its publishers keeps it; downloaded into ``weights`` when it is in none of them.

    sha256: the whole digest, or its leading digits when nobody published more. what: whose weights
    they are, source: who published the digest. instead: what to type to do without them.

    Raises :class:`ReidpipeError` naming address, digest and folder when it cannot be had, and when
    its bytes are others.
    """
    name = url.rsplit("/", 1)[-1]
    for folder in (weights, os.environ.get("REIDPIPE_WEIGHTS"), cache):
        if folder is not None and (Path(folder) / name).is_file():
            return _checked(Path(folder) / name, url, sha256)
    failure = "no folder for downloads was given"
    if weights is not None:
        whole = sha256 if len(sha256) == 64 else None
        file = Archive(name=name, sha256=whole, urls=(url,), checksum_source=source)
        try:
            return _checked(fetch(file, weights), url, sha256)
        except FetchError as error:
            failure = str(error).split(";")[0].replace(f"{url}: ", "")
    raise ReidpipeError(
        f"found no {name} ({failure}); expected {what} weights from {url} (sha256 {sha256}) "
        f"in {weights or '$REIDPIPE_WEIGHTS'}; put the file there, or type {instead}"
    )


def _checked(path: Path, url: str, sha256: str) -> Path:
    found = sha256_file(path)
    if not found.startswith(sha256):
        raise ReidpipeError(
            f"{path} has sha256 {found}; expected {sha256}; delete it and download {url} again"
        )
    return path
