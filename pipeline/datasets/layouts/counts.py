"""Comparing what was read with what a manifest expects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.datasets.layouts.rows import LayoutRow
from pipeline.datasets.manifest import Counts, Expected, Manifest
from pipeline.datasets.protocols import apply_protocol
from pipeline.terminal.errors import ReidpipeError


def verify_counts(
    rows: Sequence[Any], manifest: Manifest, *, layout: str | None = None
) -> list[str]:
    """Lines that start with ``error:`` (a number known exactly) or ``warning:``; none: all well.

    rows: of a LayoutResult or an index. layout: name of the layout they were read by; of a split
    that only another layout of the dataset has (ImageNet without its training images is accepted)
    nothing is expected. Checks identities, images and cameras per split and per
    protocol, the images shared by query and gallery, and that training and test identities are
    disjoint (one's own may show the same people in both: a warning). A mismatch lists the images
    per camera, the quickest way to see what is missing.
    """
    problems: list[str] = []
    absent = _elsewhere(manifest, layout)
    for split, counts in manifest.counts.items():
        if split in absent:
            continue
        problems += _compare(split, [row for row in rows if row.split == split], counts)
    if manifest.overlap is not None:
        shared = overlap(rows)
        if shared != manifest.overlap:
            problems.append(
                f"error: {shared} images are both query and gallery, expected {manifest.overlap}"
            )
    if manifest.kind == "reid":
        problems += _shared_identities(rows, "warning" if manifest.is_own else "error")
    for protocol in manifest.protocols:
        if not protocol.counts:
            continue
        try:
            query, gallery = apply_protocol(rows, protocol)
        except ReidpipeError as error:
            problems.append(f"warning: protocol {protocol.name} cannot be used: {error}")
            continue
        for split, chosen in (("query", query), ("gallery", gallery)):
            if split in protocol.counts:
                name = f"{protocol.name} {split}"
                problems += _compare(name, chosen, protocol.counts[split])
    return problems


def _elsewhere(manifest: Manifest, name: str | None) -> set[str]:
    """Splits that other layouts of a dataset have and the one called ``name`` has not."""
    splits = {layout.name: {s.split for s in layout.sources} for layout in manifest.layouts}
    own = splits.get(name or "")
    # Readers with rules of their own name no sources, and a pool may become any split.
    return set().union(*splits.values()) - own if own and "pool" not in own else set()


def overlap(rows: Sequence[Any]) -> int:
    """Number of query images whose identity and file name also occur in the gallery."""

    def named(split: str) -> set[tuple[int | None, str]]:
        return {(row.pid, row.path.split("/")[-1]) for row in rows if row.split == split}

    return len(named("query") & named("gallery"))


def summary(rows: Sequence[LayoutRow] | Sequence[Any]) -> list[dict[str, Any]]:
    """Per split: ``subset, ids, images, cameras``, the table people compare."""
    table = []
    for split in ("train", "val", "query", "gallery"):
        chosen = [row for row in rows if row.split == split]
        if chosen:
            ids, images, cameras = _numbers(chosen)
            table.append({"subset": split, "ids": ids, "images": images, "cameras": cameras})
    return table


def _numbers(rows: Sequence[Any]) -> tuple[int, int, int]:
    ids = {row.pid for row in rows if row.pid is not None}
    ids |= {row.extra["class"] for row in rows if "class" in row.extra}
    return len(ids), len(rows), len({row.camid for row in rows if row.camid is not None})


def _compare(name: str, rows: Sequence[Any], counts: Counts) -> list[str]:
    problems = []
    ids, images, cameras = _numbers(rows)
    found_and_expected: list[tuple[str, int, Expected | None]] = [
        ("ids", ids, counts.ids),
        ("images", images, counts.images),
        ("cameras", cameras, counts.cameras),
    ]
    for what, found, expected in found_and_expected:
        if expected is not None and found not in expected.one_of:
            level = "error" if expected.severity == "exact" else "warning"
            wanted = " or ".join(map(str, expected.one_of))
            problems.append(f"{level}: {name} has {found} {what}, expected {wanted}")
    if problems and cameras:
        per_camera = Counter(row.camid for row in rows if row.camid is not None)
        listed = ", ".join(f"{camid}: {number}" for camid, number in sorted(per_camera.items()))
        problems[-1] += f" (images per camera: {listed})"
    return problems


def _shared_identities(rows: Sequence[Any], level: str) -> list[str]:
    trained = {row.pid for row in rows if row.split == "train" and row.pid is not None}
    tested = {row.pid for row in rows if row.split in ("query", "gallery")}
    both = sorted(trained & tested)
    if not both:
        return []
    return [f"{level}: {len(both)} identities are in both train and test, first {both[0]}"]
