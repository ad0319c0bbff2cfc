"""Choose settings without the people who are reported: a table of the training images of a prepared
set, in which some of its people are held out and tested on.

python holdout.py INDEX TABLE.csv PEOPLE SEED [QUERIES GALLERY]: the folder of the set's index
(``artifacts/index/KEY`` of the workspace), the table to write, in the images' folder or above it,
how many people are held out. Of each of them and camera QUERIES images are queries and GALLERY lie
in the gallery, all of them unless given. Then: reidpipe prepare folder --root TABLE.csv
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.datasets.index import ImageRow, read_index


def held_out(
    rows: Sequence[ImageRow], people: int, seed: int, queries: int | None, gallery: int | None
) -> list[tuple[ImageRow, str]]:
    """Rows with the split that each is in now; an image of somebody held out may be query and
    gallery both, which the rule of the same camera makes harmless. Ends without enough people.
    """
    train = [row for row in rows if row.split == "train"]
    pids = sorted({row.pid for row in train if row.pid is not None})
    if not 0 < people < len(pids):
        raise SystemExit(f"found {len(pids)} people to learn from; expected more than {people}")
    held = set(np.random.default_rng(seed).permutation(pids)[:people].tolist())
    found = [(row, "train") for row in train if row.pid not in held]
    seen: dict[tuple[str, str], list[ImageRow]] = defaultdict(list)
    for row in train:
        if row.pid in held:
            seen[str(row.pid), str(row.camid)].append(row)
    rng = np.random.default_rng(seed)
    for key in sorted(seen):
        drawn = [seen[key][place] for place in rng.permutation(len(seen[key]))]
        found += [(row, "query") for row in drawn[:queries]]
        found += [(row, "gallery") for row in drawn[:gallery]]
    return found


def main() -> None:
    """Write the table."""
    if len(sys.argv) not in (5, 7):
        raise SystemExit(__doc__)
    index = read_index(Path(sys.argv[1]))
    table = Path(sys.argv[2]).absolute()
    people, seed, *counts = map(int, sys.argv[3:])
    queries, gallery = counts or (None, None)
    found = held_out(index.rows, people, seed, queries, gallery)
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "pid", "camid"])
        for row, split in found:
            path = (index.root / row.path).relative_to(table.parent)
            writer.writerow([path.as_posix(), split, row.pid, row.camid])  # None: an empty cell


if __name__ == "__main__":
    main()
