"""What of a dataset's files stands in the key of its index: names, sizes and times, no bytes.

Cheap enough for every command: nothing but small lists is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from pipeline.datasets.layouts.roots import names_beside
from pipeline.datasets.layouts.rows import SKIPPED_NAMES, is_image, subfolders, walk_files
from pipeline.datasets.manifest import Manifest
from pipeline.datasets.readers import READERS
from pipeline.datasets.trees import Layout

# What systems and programs leave in folders; no list names it.
_CLUTTER = frozenset(
    {".DS_Store", ".directory", ".localized", ".git", ".gitignore", *SKIPPED_NAMES}
)
# What commands and schedulers print into; no reader of ours reads any.
_LOGS = frozenset({".err", ".log", ".out"})
_LARGEST_LIST = 256 << 20
_TABLE = "index.csv"
# Wrapping folders that readers of one's own images enter.
_WRAPPINGS = 3


def fingerprint(root: Path) -> str:
    """Hex digest of path, size and modification time of every file below ``root``.

    Hidden files, workspaces, logs and what this process prints into do not count. For a table of
    images the folder that holds it counts.
    """
    return _of_tree(root, [])


def fingerprints(
    manifest: Manifest, root: Path, *, workspace: Path | None = None
) -> dict[str, str]:
    """``fingerprint`` by this name, and the digests of what is read and does not count in it:
    ``beside_fingerprint`` of protocol lists and class names beside the root, ``hidden_fingerprint``
    of hidden files that a list, a table or a layout names. Of what is not there, there is none.

    workspace: of the command, which is no data wherever it lies. A file that a layout names counts
    whatever it is called, and all of them where a plugin reads the tree.
    """
    skipped: list[tuple[str, Path]] = []
    named = {root.name, *(Path(word).name for word in _words(manifest.layouts))}
    logs = _LOGS if all(READERS.owns(layout.reader) for layout in manifest.layouts) else frozenset()
    found = {
        "fingerprint": _of_tree(root, skipped, logs=logs, named=named, workspace=workspace),
        "beside_fingerprint": _digest(_beside(manifest, root)),
        "hidden_fingerprint": _digest(_hidden(manifest, root, skipped)),
    }
    return {name: digest for name, digest in found.items() if digest is not None}


def _of_tree(
    root: Path,
    skipped: list[tuple[str, Path]],
    *,
    logs: frozenset[str] = _LOGS,
    named: Collection[str] = (),
    workspace: Path | None = None,
) -> str:
    digest, printed = hashlib.sha256(), _printed_into()
    top = root if root.is_dir() else root.parent
    for place, entry in walk_files(top, skipped=skipped, workspace=workspace):
        name = entry.name
        if name not in named and Path(name).suffix.lower() in logs:
            continue
        if printed and not is_image(name) and _is_among(entry, printed):
            continue
        digest.update(_line(f"{place}/{name}", entry))
    return digest.hexdigest()[:32]


def _printed_into() -> set[tuple[int, int]]:
    """The files that stdout and stderr of this process are: they grow while it works."""
    found = set()
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # closed
            status = os.fstat(stream)
            if stat.S_ISREG(status.st_mode):
                found.add((status.st_dev, status.st_ino))
    return found


def _is_among(entry: os.DirEntry[str], files: set[tuple[int, int]]) -> bool:
    try:
        found = entry.stat()
    except OSError:  # a link that leads to nothing
        return False
    return (found.st_dev, found.st_ino) in files


def _beside(manifest: Manifest, root: Path) -> Iterator[tuple[str, Path]]:
    """Names and places of files outside of ``root`` that its reader reads."""
    for name in sorted({name for layout in manifest.layouts for name in layout.membership}):
        if not (root / name).is_file():
            yield Path(name).name, root.parent / name
    if manifest.names_file is not None:
        path = names_beside(root, manifest.names_file)
        if path is not None:
            yield f"{path.parent.name}/{path.name}", path


def _hidden(
    manifest: Manifest, root: Path, skipped: list[tuple[str, Path]]
) -> Iterator[tuple[str, Path]]:
    """Hidden files below ``root`` that something names, and all in hidden folders that it names."""
    entries = [
        (place, path)
        for place, path in sorted(skipped)
        if path.name not in _CLUTTER and not path.name.startswith("._")
    ]
    if not entries:
        return
    texts = list(_naming(manifest, root))
    for place, path in entries:
        # The table itself may be hidden.
        if path != root and not any(_names(text, path.name) for text in texts):
            continue
        if path.is_dir():
            for inner, entry in _everything(path):
                yield f"{place}/{path.name}/{inner}", entry
        else:
            yield f"{place}/{path.name}", path


def _naming(manifest: Manifest, root: Path) -> Iterator[bytes]:
    """The layouts' own words, and the bytes of lists and tables that may name images."""
    yield "\n".join(_words(manifest.layouts)).encode()
    lists = set(tables_of(root))
    if root.is_dir():
        lists |= set(root.glob("*.json"))
        for layout in manifest.layouts:
            lists |= {root / source.list for source in layout.sources if source.list}
    for path in sorted(lists):
        if path.is_file() and path.stat().st_size <= _LARGEST_LIST:
            yield path.read_bytes()


def tables_of(root: Path) -> list[Path]:
    """Where a table of one's own images would lie: the root itself, or in the folders it wraps."""
    if not root.is_dir():
        return [root]
    tops, inner = [root], root
    while len(tops) <= _WRAPPINGS and len(folders := subfolders(inner)) == 1:
        inner = folders[0]
        tops.append(inner)
    return [top / _TABLE for top in tops]


def _words(layouts: Iterable[Layout]) -> Iterator[str]:
    for layout in layouts:
        yield from (*layout.requires, *layout.membership, *layout.viewpoints, *layout.tracks)
        for source in layout.sources:
            yield from (source.folder, source.list or "", source.labels or "")
            yield from (*source.images, *source.identities)


def _names(text: bytes, name: str) -> bool:
    """Whether a hidden name stands in a text as a part of a path."""
    raw = os.fsencode(name)
    return raw in text and re.search(rb"(?<![^/\\,;\s\"'])" + re.escape(raw), text) is not None


def _everything(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            yield path.relative_to(folder).as_posix(), path


def _digest(places: Iterable[tuple[str, Path]]) -> str | None:
    digest, any_file = hashlib.sha256(), False
    for name, path in places:
        if path.is_file():
            digest.update(_line(name, path))
            any_file = True
    return digest.hexdigest()[:32] if any_file else None


def _line(name: str, file: Path | os.DirEntry[str]) -> bytes:
    try:
        found = file.stat()
    except OSError:  # a link that leads to nothing
        found = file.stat(follow_symlinks=False)
    return os.fsencode(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n")
