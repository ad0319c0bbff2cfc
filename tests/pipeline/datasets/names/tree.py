"""Reading a tree of names without a disk: what ``read_files`` makes of them, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

from pipeline.datasets.layouts import files
from pipeline.datasets.layouts.rows import IMAGE_SUFFIXES
from pipeline.datasets.layouts.splits import complete
from pipeline.datasets.manifest import Manifest

ROOT = Path("/tree")


def read_names(
    manifest: Manifest,
    images: Iterable[str],
    lists: Mapping[str, Sequence[str]] | None = None,
) -> files.Reading:
    """The reading of a tree with these images and list files (path below the root -> lines).

    The layout is the first whose required entries are there, as on a disk. Raises StopIteration
    where none is.
    """
    lines = {f"{ROOT}/{name}": list(content) for name, content in (lists or {}).items()}
    present = [f"{ROOT}/{name}" for name in images]
    at, folders = set(present), _folders([*present, *lines])
    layout = next(
        layout
        for layout in manifest.layouts
        if all(f"{ROOT}/{name}" in folders | lines.keys() for name in layout.requires)
    )

    class Names(files.Reading):
        def place(self, name: str) -> Path | None:
            path = f"{ROOT}/{name}"
            return Path(path) if path in folders or path in lines else None

        def file(self, name: str) -> Path | None:
            path = f"{ROOT}/{name}"
            return Path(path) if path in at else None

    def walk(folder: Path, *, depth: int | None = None) -> Iterator[Path]:
        assert depth is None
        inside = f"{folder}/"
        for path in present:
            if path.startswith(inside) and path[path.rindex(".") :].lower() in IMAGE_SUFFIXES:
                yield Path(path)

    reading = Names(root=ROOT, manifest=manifest, layout=layout)
    with (
        patch.object(files, "walk_images", walk),
        patch.object(files, "read_lines", lambda path: lines[str(path)]),
    ):
        files.read_files(reading)
    complete(reading)
    return reading


def _folders(paths: list[str]) -> set[str]:
    found: set[str] = set()
    left = {path.rpartition("/")[0] for path in paths}
    while left - {""}:
        found |= left
        left = {path.rpartition("/")[0] for path in left}
    return found
