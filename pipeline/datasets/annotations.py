"""Ground truth: files of labels that an index names beside its images, read as they were indexed.

A row's column ``label_path`` says where its label map lies, ``label_digest`` the SHA-256 of it.
Maps that a step drew itself lie in its artifact, whose mark has their digests; the table names them
by their place in there, so that it is the same in every workspace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.checked import checked
from pipeline.datasets.fingerprints import tables_of
from pipeline.images.originals import DamagedImage, Original, read_bytes

if TYPE_CHECKING:
    from pipeline.datasets.index import ImageRow
    from pipeline.datasets.layouts import LayoutRow
    from pipeline.datasets.manifest import Manifest

LABEL_PATH, LABEL_DIGEST = "label_path", "label_digest"
_INSIDE = "artifact:"
# Readers that draw label maps from another form of annotations.
_DRAWING = frozenset({"ccp", "pascal_context"})


def names_annotations(manifest: Manifest, root: Path) -> bool:
    """Whether a dataset has label maps outside of our artifacts: its manifest says where, or the
    table of one's own images has a column ``label_path``.
    """
    if any(source.labels for layout in manifest.layouts for source in layout.sources):
        return True
    return manifest.is_own and any(_has_column(table) for table in tables_of(root))


def draws_annotations(manifest: Manifest) -> bool:
    """Whether the index step draws a dataset's label maps."""
    return any(layout.reader in _DRAWING for layout in manifest.layouts)


def written(path: str, folder: Path) -> str:
    """A ``label_path`` as it stands in the table in ``folder``."""
    inside = Path(path).is_relative_to(folder)
    return f"{_INSIDE}{Path(path).relative_to(folder).as_posix()}" if inside else path


def resolved(text: str, folder: Path) -> str:
    """The inverse of ``written``."""
    return str(folder / text.removeprefix(_INSIDE)) if text.startswith(_INSIDE) else text


def _has_column(table: Path) -> bool:
    if not table.is_file():
        return False
    with table.open("rb") as file:
        return LABEL_PATH.encode() in file.readline(1 << 16)


def digested(rows: Iterable[LayoutRow], root: Path) -> Iterator[LayoutRow]:
    """The rows, with the digest of the label map of those that name one; empty where there is no
    such file, which its readers say.
    """
    for row in rows:
        if path := row.extra.get(LABEL_PATH):
            try:
                digest = hashlib.sha256(read_bytes(root / path)).hexdigest()
            except DamagedImage:
                digest = ""
            row = replace(row, extra={**row.extra, LABEL_DIGEST: digest})
        yield row


def annotation(root: Path, row: ImageRow) -> Original:
    """The label map of a row that has one, as it was indexed. Raises DamagedFile for one of an
    artifact that is another now.
    """
    path = root / row.extra[LABEL_PATH]
    digest = row.extra.get(LABEL_DIGEST, "")
    return Original(path if digest or not path.is_file() else checked(path), digest)


def indexed_annotations(root: Path, rows: Iterable[ImageRow]) -> Iterator[Original]:
    """Of each row whose label map has a digest in the index."""
    for row in rows:
        if row.extra.get(LABEL_DIGEST):
            yield annotation(root, row)
