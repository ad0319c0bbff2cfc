"""Reading a tree of names without a disk: what ``read_files`` makes of them, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

from pipeline.datasets.layouts import files
from pipeline.datasets.layouts.rows import IMAGE_SUFFIXES, is_skipped
from pipeline.datasets.layouts.splits import complete
from pipeline.datasets.manifest import Manifest

ROOT = Path("/tree")


def read_names(
    manifest: Manifest,
    images: Iterable[str],
    lists: Mapping[str, Sequence[str]] | None = None,
) -> files.Reading:
    """The reading of a tree with these images (paths below the root) and list files (path -> lines).

    The layout is the first whose required entries are there, as on a disk. Raises StopIteration
    where none is.
    """
    lines = {str(ROOT / name): list(content) for name, content in (lists or {}).items()}
    present = {ROOT / name: None for name in images}
    folders = {parent for path in [*present, *map(Path, lines)] for parent in path.parents}
    layout = next(
        layout
        for layout in manifest.layouts
        if all(ROOT / name in folders or str(ROOT / name) in lines for name in layout.requires)
    )

    class Names(files.Reading):
        def place(self, name: str) -> Path | None:
            path = ROOT / name
            return path if path in folders or str(path) in lines else None

        def file(self, name: str) -> Path | None:
            path = ROOT / name
            return path if path in present else None

    def walk(folder: Path, *, depth: int | None = None) -> Iterator[Path]:
        assert depth is None
        for path in present:
            if folder in path.parents and path.suffix.lower() in IMAGE_SUFFIXES:
                assert not is_skipped(path.name)
                yield path

    reading = Names(root=ROOT, manifest=manifest, layout=layout)
    with (
        patch.object(files, "walk_images", walk),
        patch.object(files, "read_lines", lambda path: lines[str(path)]),
    ):
        files.read_files(reading)
    complete(reading)
    return reading
