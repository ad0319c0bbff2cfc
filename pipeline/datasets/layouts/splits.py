"""Splits that a tree does not spell out: offsets, explicit lists, seeded draws, memberships."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace

from pipeline.datasets.layouts.files import Reading
from pipeline.datasets.layouts.orders import store_orders
from pipeline.datasets.layouts.rows import LayoutRow, integer, read_lines
from pipeline.datasets.layouts.tracks import mark_tracks
from pipeline.datasets.manifest import Assignment, Drawn, Trials
from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.printable import shortened


def complete(reading: Reading) -> None:
    """Turn the rows as read into the dataset's rows; changes ``reading`` in place."""
    manifest, layout = reading.manifest, reading.layout
    reading.rows = number_identities(reading.rows)
    if layout.pid_offset_in_test:
        reading.rows = offset_test_identities(reading.rows)
    if manifest.assign is not None:
        kept = assign_splits(reading.rows, manifest.assign, manifest.title)
        unused = {row.path for row in reading.rows} - {row.path for row in kept}
        reading.leave_out("in no split of this variant", *sorted(unused))
        reading.rows = kept
    if manifest.drawn is not None and any(row.split == "pool" for row in reading.rows):
        _draw(reading, manifest.drawn)
    if manifest.trials is not None:
        reading.rows = draw_galleries(reading.rows, manifest.trials)
    if manifest.orders is not None:
        store_orders(reading, manifest.orders)
    if layout.tracks:
        mark_tracks(reading, layout.tracks)
    if layout.membership:
        _mark_members(reading)
    if layout.viewpoints:
        _add_viewpoints(reading)


def number_identities(rows: list[LayoutRow]) -> list[LayoutRow]:
    """Give identities that are no numbers their place in sorted order.

    When one name of a dataset is no number, all are numbered, so that ``7`` and ``007a`` never
    meet; the name stays in the extra column ``identity``. Beside a number that column is the
    table's own and names nobody.
    """
    if not any(row.pid is None and row.extra.get("identity") for row in rows):
        return rows
    names = [row.extra.get("identity", "") if row.pid is None else str(row.pid) for row in rows]
    numbers = {name: number for number, name in enumerate(sorted(set(names) - {""}))}
    return [
        replace(row, pid=numbers.get(name), extra={**row.extra, "identity": name})
        for row, name in zip(rows, names, strict=True)
    ]


def offset_test_identities(rows: list[LayoutRow]) -> list[LayoutRow]:
    """Keep test identities that restart at 0 apart from the training identities.

    The offset is the greatest training identity + 1, which for the published contiguous lists is
    the number of training identities, and stays free of collisions for partial copies.
    """
    trained = [row.pid for row in rows if row.split in ("train", "val") and row.pid is not None]
    offset = max(trained, default=-1) + 1
    return [
        replace(row, pid=row.pid + offset)
        if row.split in ("query", "gallery") and row.pid is not None
        else row
        for row in rows
    ]


def assign_splits(rows: list[LayoutRow], assign: Assignment, title: str) -> list[LayoutRow]:
    """Split the rows of ``pool`` by the explicit lists of an assignment.

    A query of the list ``query_in_gallery`` yields two rows with the same path. Rows of no split
    are left out. Raises ReidpipeError when a listed query is not among the rows.
    """
    pool = [row for row in rows if row.split == "pool"]
    train_ids = set(assign.train_ids)
    listed = None if assign.query is None else set(assign.query)
    both = set(assign.query_in_gallery)
    # Lists name images by their last folder and file, or by the file alone.
    levels = 1 + max((name.count("/") for name in listed or ()), default=0)
    found: set[str] = set()
    result: list[LayoutRow] = []
    for row in pool:
        name = "/".join(row.path.split("/")[-levels:])
        if row.pid in train_ids:
            result.append(replace(row, split="train"))
            continue
        if listed is not None:
            is_query = name in listed
        else:
            is_query = row.camid in (assign.query_cameras or ())
        if is_query and assign.query_max_pid is not None:
            is_query = row.pid is not None and row.pid <= assign.query_max_pid
        if is_query:
            found.add(name)
            result.append(replace(row, split="query"))
        in_gallery = assign.gallery_cameras is None or row.camid in assign.gallery_cameras
        if in_gallery and (not is_query or name in both):
            result.append(replace(row, split="gallery"))
    missing = sorted((listed or set()) - found)
    if missing:
        raise ReidpipeError(
            f"found {len(missing)} listed queries of {title} missing: {shortened(missing)}; "
            "expected the whole archive; unpack it again"
        )
    return result


def _draw(reading: Reading, drawn: Drawn) -> None:
    """Distribute the pool by shares; with as many images as published, the shares are counts."""
    import numpy as np

    pool = [row for row in reading.rows if row.split == "pool"]
    order = np.random.default_rng(drawn.seed).permutation(len(pool))
    splits: dict[int, str] = {}
    start = 0
    for split, share in drawn.shares.items():
        stop = start + len(pool) * share // drawn.total
        splits.update(dict.fromkeys(order[start:stop].tolist(), split))
        start = stop
    spare = [pool[place].path for place in sorted(order[start:].tolist())]
    reading.leave_out("left over by the drawn split", *spare)
    kept = [replace(row, split=splits[i]) for i, row in enumerate(pool) if i in splits]
    reading.rows = [row for row in reading.rows if row.split != "pool"] + kept
    reading.notes.append(
        f"no official split of {reading.manifest.title} was found: split drawn by reidpipe with "
        f"seed {drawn.seed}"
    )


def draw_galleries(rows: list[LayoutRow], trials: Trials) -> list[LayoutRow]:
    """Draw each trial's gallery from the test rows and store it with them.

    The column ``gallery_trials`` lists the trials (counted from 0) in which the image is in the
    gallery; splits are those of trial 0. Draws depend on the seed, the sorted identities and the
    sorted paths only.
    """
    import numpy as np

    per_pid: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        if row.split == "query" and row.pid is not None:
            per_pid[row.pid].append(row.path)
    member: dict[str, list[str]] = defaultdict(list)
    for number, seed in enumerate(trials.seeds):
        generator = np.random.default_rng(seed)
        for pid in sorted(per_pid):
            paths = sorted(per_pid[pid])
            count = min(trials.gallery_per_id, len(paths))
            for place in generator.choice(len(paths), size=count, replace=False):
                member[paths[place]].append(str(number))
    result = []
    for row in rows:
        if row.split == "query":
            chosen = member.get(row.path, [])
            split = "gallery" if "0" in chosen else "query"
            extra = {**row.extra, "gallery_trials": " ".join(chosen)}
            row = replace(row, split=split, extra=extra)
        result.append(row)
    return result


def _mark_members(reading: Reading) -> None:
    """Column ``lists``: the protocol lists (file stems) that name a query or gallery row."""
    members: dict[str, list[str]] = defaultdict(list)
    absent = []
    for name in reading.layout.membership:
        places = (reading.root / name, reading.root.parent / name)
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            absent.append(name)
            continue
        for line in read_lines(path):
            # Lines are query/... or gallery/...; only that tail is common to all copies.
            match = re.search(r"(?:query|gallery)/\S+", line.replace("\\", "/"))
            if match is None:
                raise ReidpipeError(
                    f"{path}: found '{line[:80]}'; expected lines that start with query/ or "
                    "gallery/; fetch the protocol list again"
                )
            members[_tail(match[0])].append(path.stem)
    if absent:
        reading.notes.append(
            f"protocol lists not found in {reading.root} or beside it: {', '.join(absent)}"
        )
    rows = []
    for row in reading.rows:
        if row.split in ("query", "gallery"):
            names = dict.fromkeys(members.get(_tail(f"{row.split}/{row.path}"), []))
            row = replace(row, extra={**row.extra, "lists": " ".join(names)})
        rows.append(row)
    reading.rows = rows


def _tail(path: str) -> str:
    # Some copies drop the identity folder: split and file name identify an image.
    parts = path.split("/")
    return f"{parts[0]}/{parts[-1]}"


def _add_viewpoints(reading: Reading) -> None:
    """Views from key-point files: path, 20 pairs of coordinates, orientation 0..7.

    Images without a line keep view None; the reference loaders drop them, which changes the
    benchmark.
    """
    views: dict[str, int] = {}
    for name in reading.layout.viewpoints:
        path = reading.place(name)
        if path is None:
            continue
        for number, line in enumerate(read_lines(path), start=1):
            fields = line.split()
            view = integer(fields[-1]) if len(fields) == 42 else None
            if view is None:
                raise ReidpipeError(
                    f"{path} line {number}: found {len(fields)} fields; expected a path, 20 "
                    "coordinate pairs and an orientation; fetch the file again"
                )
            views[fields[0].replace("\\", "/").split("/")[-1]] = view
    if not views:
        return
    reading.rows = [
        replace(row, view=view if (view := views.get(row.path.split("/")[-1], -1)) >= 0 else None)
        for row in reading.rows
    ]
