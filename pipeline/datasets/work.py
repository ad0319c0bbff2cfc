"""The index step: read a tree, decode every image once, write the table, check it."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.artifacts.processes import spread
from pipeline.datasets.catalogue import defined
from pipeline.datasets.check import check_rows
from pipeline.datasets.fingerprints import fingerprint, fingerprints
from pipeline.datasets.index import ImageRow, Index, write_index
from pipeline.datasets.layouts import LayoutResult, LayoutRow, read_layout
from pipeline.datasets.layouts.own import Holdout
from pipeline.datasets.layouts.rows import shortened
from pipeline.images.decoding import Decoding
from pipeline.images.originals import DamagedImage, read_bytes
from pipeline.images.pixels import read_image
from pipeline.images.work import WORTHWHILE
from pipeline.mannequins import render
from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job


class Measured(NamedTuple):
    """What decoding one image tells: pixels, SHA-256 of the file, words about what was done to it
    (``pipeline.images.appearance``), or what is wrong with it."""

    width: int
    height: int
    digest: str
    damage: str
    told: tuple[str, ...] = ()


def index(job: Job) -> dict[str, Any]:
    """Worker of step "index": read a tree, decode every image, write ``index.csv``.

    params as ``pipeline.datasets.sources.index_step`` gives them; generated people are drawn
    instead. Damaged images are left out, counted and named. Returns the findings of
    ``pipeline.datasets.check`` and ``lines`` a person should read.
    Raises ReidpipeError for a tree that is no such dataset or has no whole image, and for one that
    is not the tree which the step's key names.
    """
    if "fingerprint" not in job.params:
        return render(job)
    manifest = defined(job.params["dataset"], job.params.get("definition"))
    assert manifest is not None
    lists = job.params.get("lists")
    check_unchanged(job.params)
    layout = read_layout(
        Path(job.params["root"]),
        manifest,
        output=job.folder / "extracted",
        rule=job.params.get("rule"),
        holdout=Holdout.from_plain(job.params.get("holdout")),
        lists=Path(lists) if lists else None,
    )
    paths = list(dict.fromkeys(row.path for row in layout.rows))
    measured = spread(
        partial(_measure, root=layout.root, decoding=manifest.decoding),
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
    check_unchanged(job.params)  # whoever changed it while it was read has mixed two datasets
    definition = job.params.get("definition")
    write_index(
        job.folder, Index(manifest.dataset, layout.root, rows, definition, manifest.decoding)
    )
    decoded = _decoded(paths, facts)
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
        "decoded": decoded,
        **found.plain(),
        "lines": [
            *_reading_lines(layout, damaged, facts),
            *_decoding_lines(decoded),
            *found.lines,
        ],
    }


def check_unchanged(params: dict[str, Any]) -> None:
    """Raise ReidpipeError when images or lists are not those whose fingerprint the key holds."""
    manifest = defined(params["dataset"], params.get("definition"))
    assert manifest is not None
    found = fingerprints(manifest, Path(params["root"]))
    if params.get("lists") is not None:
        found["lists_fingerprint"] = fingerprint(Path(params["lists"]))
    for name, digest in found.items():
        if params.get(name, digest) != digest:
            folder = params["lists" if name == "lists_fingerprint" else "root"]
            raise ReidpipeError(
                f"found other files in {folder} than when {params['dataset']} was asked for; "
                "expected the same until its index is made; type the command that trained on it "
                "again, which asks anew"
            )


def _decoded(paths: list[str], facts: dict[str, Measured]) -> dict[str, list[str]]:
    """What was done to images -> which, where the file is not simply what is shown."""
    found: dict[str, list[str]] = {}
    for path in paths:
        for what in facts[path].told:
            found.setdefault(what, []).append(path)
    return dict(sorted(found.items()))


def _measure(paths: list[str], *, root: Path, decoding: Decoding) -> list[Measured]:
    results = []
    for path in paths:
        try:
            data = read_bytes(root / path)
            image, told = read_image(data, path, decoding=decoding)
        except DamagedImage as error:
            results.append(Measured(0, 0, "", str(error)))
        else:
            digest = hashlib.sha256(data).hexdigest()
            results.append(Measured(image.width, image.height, digest, "", told))
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


def _decoding_lines(decoded: dict[str, list[str]]) -> list[str]:
    return [
        f"{len(found)} image{'s' if len(found) > 1 else ''} {what}: {shortened(found)}"
        for what, found in decoded.items()
    ]


def _reading_lines(
    layout: LayoutResult, damaged: list[str], facts: dict[str, Measured]
) -> list[str]:
    lines = [f"read as {layout.layout}", *layout.notes]
    for why, count in layout.dropped.items():
        example = f", such as {layout.examples[why]}" if why in layout.examples else ""
        lines.append(f"left out: {count} images ({why}){example}")
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
