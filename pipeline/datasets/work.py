"""The index step: read a tree, decode every image once, write the table, check it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.artifacts.processes import spread_streamed
from pipeline.datasets.annotations import digested
from pipeline.datasets.catalogue import defined
from pipeline.datasets.check import check_rows
from pipeline.datasets.fingerprints import fingerprint, fingerprints
from pipeline.datasets.index import ImageRow, Index, write_index
from pipeline.datasets.layouts import LayoutResult, LayoutRow, read_layout
from pipeline.datasets.layouts.own import Holdout
from pipeline.datasets.repeats import may_repeat
from pipeline.datasets.sharing import Shared
from pipeline.datasets.standing import ALIKE, decide
from pipeline.images.decoding import Decoding
from pipeline.images.originals import DamagedImage, read_bytes
from pipeline.images.pixels import read_size
from pipeline.images.work import WORTHWHILE
from pipeline.mannequins import render
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import shortened

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
    check_unchanged(job.params, job.workspace)
    layout = read_layout(
        Path(job.params["root"]),
        manifest,
        output=job.folder / "extracted",
        rule=job.params.get("rule"),
        holdout=Holdout.from_plain(job.params.get("holdout")),
        lists=Path(lists) if lists else None,
    )
    if job.params.get("annotations"):
        layout.rows[:] = digested(layout.rows, layout.root)
    found = Found()
    paths = list(dict.fromkeys(row.path for row in layout.rows))
    measured = spread_streamed(
        partial(_measure, root=layout.root, decoding=manifest.decoding),
        paths,
        workers=job.workers,
        scheduler=job.scheduler,
        chunk=64,
        worthwhile=WORTHWHILE,
        running=job.running,
    )
    rows = _index_rows(layout.rows, measured, found)
    if not rows:
        raise ReidpipeError(
            f"found no whole image among {len(paths)} of {manifest.title} in {layout.root}, "
            f"first: {next(iter(found.damaged.values()))}"
        )
    del paths
    # Whoever changed it while it was read has mixed two datasets.
    check_unchanged(job.params, job.workspace)
    definition = job.params.get("definition")
    write_index(
        job.folder, Index(manifest.dataset, layout.root, rows, definition, manifest.decoding)
    )
    decide(job.folder, job.params.get(ALIKE, ()))
    decoded = dict(sorted(found.decoded.items()))
    damaged = list(found.damaged)
    checked = check_rows(rows, manifest, layout=layout.layout)
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
        **checked.plain(),
        "lines": [
            *_reading_lines(layout, found.damaged),
            *_decoding_lines(decoded),
            *checked.lines,
        ],
    }


def check_unchanged(params: dict[str, Any], workspace: Path | None = None) -> None:
    """Raise ReidpipeError when images or lists are not those whose fingerprint the key holds.
    workspace: the command's.
    """
    manifest = defined(params["dataset"], params.get("definition"))
    assert manifest is not None
    found = fingerprints(manifest, Path(params["root"]), workspace=workspace)
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


def _measure(paths: list[str], *, root: Path, decoding: Decoding) -> list[Measured]:
    results = []
    for path in paths:
        try:
            data = read_bytes(root / path)
            width, height, told = read_size(data, path, decoding=decoding)
        except DamagedImage as error:
            results.append(Measured(0, 0, "", str(error)))
        else:
            digest = hashlib.sha256(data).hexdigest()
            results.append(Measured(width, height, digest, "", told))
    return results


@dataclass
class Found:
    """What decoding told of images that were not simply taken as they are, by path in the order of
    the table. damaged: path -> what is wrong. decoded: what was done -> paths.
    """

    damaged: dict[str, str] = field(default_factory=dict)
    decoded: dict[str, list[str]] = field(default_factory=dict)

    def note(self, path: str, fact: Measured) -> None:
        if fact.damage:
            self.damaged[path] = fact.damage
        for what in fact.told:
            self.decoded.setdefault(what, []).append(path)


def _index_rows(
    rows: list[LayoutRow], measured: Iterator[Measured], found: Found
) -> list[ImageRow]:
    """The rows of the table. measured: of each path in the order in which it first comes. The list
    ``rows`` is emptied: a million rows of both kinds are not held at once.
    """
    often = {rows[at].path for at in may_repeat((row.path for row in rows), len(rows)).tolist()}
    facts: dict[str, Measured] = {}
    shared = Shared()
    result = []
    rows.reverse()
    while rows:
        row = rows.pop()
        key = row.path
        if key in facts:
            fact, key = facts[key], f"{row.path}@{row.split}"
        else:
            fact = next(measured)
            found.note(row.path, fact)
            if row.path in often:
                facts[row.path] = fact
        if fact.damage:
            continue
        result.append(
            ImageRow(
                key=key, path=row.path, split=row.split, camid=row.camid, view=row.view,
                pid=None if row.pid is None else shared.same(row.pid),
                sequence=shared.same(row.sequence), frame=row.frame, width=fact.width,
                height=fact.height, digest=fact.digest,
                extra=shared.columns(tuple(row.extra.items())),
            )
        )  # fmt: skip
    return result


def _decoding_lines(decoded: dict[str, list[str]]) -> list[str]:
    return [
        f"{len(found)} image{'s' if len(found) > 1 else ''} {what}: {shortened(found)}"
        for what, found in decoded.items()
    ]


def _reading_lines(layout: LayoutResult, damaged: dict[str, str]) -> list[str]:
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
        lines += [f"  {path}: {what}" for path, what in list(damaged.items())[:20]]
        if len(damaged) > 20:
            lines.append(f"  and {len(damaged) - 20} more")
    return lines
