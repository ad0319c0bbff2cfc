"""Section "Dataset": how many people, images and cameras, how large, and a few of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import quantiles
from typing import Any

import numpy as np

from pipeline.datasets.index import ImageRow
from pipeline.datasets.layouts.counts import summary
from reid_train.figures.page.inline import image_uri, small
from reid_train.figures.page.section import Section
from reid_train.figures.page.views import Pictures, RunView

EXAMPLES = 10
BARS = 12


def dataset(views: Sequence[RunView]) -> Section:
    """A card for each of the evaluated datasets."""
    first = {view.index: view for view in reversed(views)}
    cards = [_card(view) for view in views if first[view.index] is view]
    return Section("dataset", "Dataset" if len(cards) == 1 else "Datasets", {"cards": cards})


def _card(view: RunView) -> dict[str, Any]:
    pictures = view.pictures
    index, manifest = pictures.index, pictures.index.manifest
    rows = index.rows
    return {
        "name": index.dataset,
        "title": manifest.title if manifest else "",
        "licence": manifest.licence if manifest else "",
        "citation": list(manifest.citation) if manifest else [],
        "key": view.index.name,
        "splits": [
            {**line, "per_person": _per_person(rows, line["subset"])} for line in summary(rows)
        ],
        "sizes": _sizes(rows),
        "allowed": pictures.allowed,
        "examples": _examples(pictures),
    }


def _per_person(rows: Sequence[ImageRow], split: str) -> str:
    """Images of each identity: the median, and the fewest and most where they differ."""
    counts = Counter(row.pid for row in rows if row.split == split and row.pid is not None)
    if not counts:
        return "–"
    fewest, most = min(counts.values()), max(counts.values())
    middle = f"{float(np.median(list(counts.values()))):g}"
    return middle if fewest == most else f"{middle} ({fewest} to {most})"


def _sizes(rows: Sequence[ImageRow]) -> dict[str, Any]:
    """Widths and heights in pixels: least, quartiles, greatest; a histogram of the heights."""
    sizes = Counter((row.width, row.height) for row in rows)
    found: dict[str, Any] = {"distinct": len(sizes), "bars": []}
    for side, values in (
        ("width", [row.width for row in rows]),
        ("height", [row.height for row in rows]),
    ):
        middle = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        found[side] = [f"{value:g}" for value in (min(values), *middle, max(values))]
    if len(sizes) > 1:
        counts, edges = np.histogram([row.height for row in rows], bins=BARS)
        found["bars"] = [
            {"images": int(count), "of": float(count / counts.max()),
             "from": f"{low:.0f}", "to": f"{high:.0f}"}
            for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
        ]  # fmt: skip
    return found


def _examples(pictures: Pictures) -> list[dict[str, Any]]:
    """Test images of different identities, evenly spread; none where they may not be shown."""
    if not pictures.allowed:
        return []
    tested = [row for row in pictures.index.rows if row.split in ("query", "gallery")]
    of_each: dict[int | None, list[ImageRow]] = {}
    for row in sorted(tested, key=lambda row: row.key):
        of_each.setdefault(row.pid, []).append(row)
    # Of the n-th person the n-th image, so that other cameras are seen than the first.
    rows = [found[n % len(found)] for n, found in enumerate(of_each.values())]
    places = np.linspace(0, len(rows) - 1, min(EXAMPLES, len(rows))).round().astype(int)
    return [
        {
            "key": row.key,
            "told": pictures.whose(row.key),
            "picture": image_uri(small(pictures[row.key])),
        }
        for row in (rows[place] for place in places)
    ]
