"""The index step: read a tree, decode every image once, write the table, check it."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.artifacts.processes import spread
from pipeline.datasets.check import check_rows
from pipeline.datasets.index import ImageRow, Index, write_index
from pipeline.datasets.layouts import LayoutResult, LayoutRow, read_layout
from pipeline.datasets.layouts.rows import shortened, walk_files
from pipeline.datasets.manifest import load_manifest
from pipeline.datasets.roots import lists_folder, prepare_root, registered_root, registered_rule
from pipeline.images.pixels import DamagedImage, open_image, read_bytes
from pipeline.images.work import WORTHWHILE
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job

__all__ = ["fingerprint", "index", "index_params", "prepare_root", "registered_root"]


class Measured(NamedTuple):
    """What decoding one image tells: pixels, SHA-256 of the file, or what is wrong with it."""

    width: int
    height: int
    digest: str
    damage: str


def index_params(workspace: Path, dataset: str) -> dict[str, Any]:
    """Parameters of the index step: a changed file, manifest, rule or list gives another key."""
    manifest = load_manifest(dataset)
    root = registered_root(workspace, dataset)
    lists = lists_folder(manifest, workspace)
    return {
        "dataset": dataset,
        "root": str(root),
        "manifest": hashlib.sha256(manifest.model_dump_json().encode()).hexdigest(),
        "fingerprint": fingerprint(root),
        "rule": registered_rule(workspace, manifest),
        "lists": str(lists) if lists else None,
        "lists_fingerprint": fingerprint(lists) if lists else None,
    }


def fingerprint(root: Path) -> str:
    """Hex digest of path, size and modification time of every file below ``root``.

    Cheap enough for every command: no file is opened. Hidden files and workspaces do not count.
    For a table of images the folder that holds it counts.
    """
    digest = hashlib.sha256()
    for place, entry in walk_files(root if root.is_dir() else root.parent):
        try:
            found = entry.stat()
        except OSError:  # a link that leads to nothing
            found = entry.stat(follow_symlinks=False)
        digest.update(os.fsencode(f"{place}/{entry.name}\0{found.st_size}\0{found.st_mtime_ns}\n"))
    return digest.hexdigest()[:32]


def index(job: Job) -> dict[str, Any]:
    """Worker of step "index": read a tree, decode every image, write ``index.csv``.

    params as ``index_params`` gives them. Damaged images are left out, counted and named.
    Returns the findings of ``pipeline.datasets.check`` and ``lines`` a person should read.
    Raises ReidpipeError for a tree that is no such dataset or has no whole image.
    """
    manifest = load_manifest(job.params["dataset"])
    lists = job.params.get("lists")
    layout = read_layout(
        Path(job.params["root"]),
        manifest,
        output=job.folder / "extracted",
        rule=job.params.get("rule"),
        lists=Path(lists) if lists else None,
    )
    paths = list(dict.fromkeys(row.path for row in layout.rows))
    measured = spread(
        partial(_measure, root=layout.root),
        paths,
        workers=job.workers,
        scheduler=job.scheduler,
        chunk=64,
        worthwhile=WORTHWHILE,
        progress="index" if job.progress else None,
    )
    facts = dict(zip(paths, measured, strict=True))
    damaged = [path for path in paths if facts[path].damage]
    rows = _index_rows(layout.rows, facts)
    if not rows:
        raise ReidpipeError(
            f"found no whole image among {len(paths)} of {manifest.title} in {layout.root}, "
            f"first: {facts[damaged[0]].damage}"
        )
    write_index(job.folder, Index(manifest.dataset, layout.root, rows))
    found = check_rows(rows, manifest)
    return {
        "dataset": manifest.dataset,
        "root": str(layout.root),
        "layout": layout.layout,
        "images": len(rows),
        "damaged": damaged,
        "dropped": layout.dropped,
        "unmatched_files": layout.unmatched,
        "notes": layout.notes,
        **found.plain(),
        "lines": [*_reading_lines(layout, damaged, facts), *found.lines],
    }


def _measure(paths: list[str], *, root: Path) -> list[Measured]:
    results = []
    for path in paths:
        try:
            data = read_bytes(root / path)
            width, height = open_image(data, path).size
        except DamagedImage as error:
            results.append(Measured(0, 0, "", str(error)))
        else:
            results.append(Measured(width, height, hashlib.sha256(data).hexdigest(), ""))
    return results


def _index_rows(rows: list[LayoutRow], facts: dict[str, Measured]) -> list[ImageRow]:
    seen: set[str] = set()
    result = []
    for row in rows:
        fact = facts[row.path]
        if fact.damage:
            continue
        key = f"{row.path}@{row.split}" if row.path in seen else row.path
        seen.add(row.path)
        result.append(
            ImageRow(
                key=key, path=row.path, split=row.split, pid=row.pid, camid=row.camid,
                view=row.view, sequence=row.sequence, frame=row.frame, width=fact.width,
                height=fact.height, digest=fact.digest, extra=row.extra,
            )
        )  # fmt: skip
    return result


def _reading_lines(
    layout: LayoutResult, damaged: list[str], facts: dict[str, Measured]
) -> list[str]:
    lines = list(layout.notes)
    lines += [f"left out: {count} images ({why})" for why, count in layout.dropped.items()]
    if layout.unmatched:
        count = len(layout.unmatched)
        lines.append(
            f"warning: {count} files do not follow the naming rule and are left out: "
            f"{shortened(layout.unmatched, 5)}"
        )
    if damaged:
        lines.append(f"warning: {len(damaged)} damaged images are left out:")
        lines += [f"  {path}: {facts[path].damage}" for path in damaged[:20]]
        if len(damaged) > 20:
            lines.append(f"  and {len(damaged) - 20} more")
    return lines
