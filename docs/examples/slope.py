"""Does mAP depend on how good the label maps are? A slope within each seed, t over seeds.

python slope.py TABLE.json exact=100 schp-tiny=70.0 ...: the table of ``reidpipe run --json`` with
several parsers, and the mIoU of each by ``reidpipe parse --score``, both in percent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reid_train.evaluation.statistics.seeds import over_seeds


def slopes(rows: list[dict[str, Any]], miou: Mapping[str, float]) -> np.ndarray:
    """mAP in points by point of mIoU, least squares over the parsers, for each seed of all rows."""
    known = {row["parsing"]: row for row in rows if row["parsing"] in miou}
    seeds = sorted(set.intersection(*(set(row["seeds"]) for row in known.values())))
    measured = np.array(
        [
            [100 * row["mAP"]["values"][row["seeds"].index(seed)] for seed in seeds]
            for row in known.values()
        ]
    )
    quality = np.array([miou[parser] for parser in known])
    centred = quality - quality.mean()
    return centred @ measured / (centred @ centred)


def main() -> None:
    table = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    miou = {name: float(value) for name, _, value in (w.rpartition("=") for w in sys.argv[2:])}
    found = slopes(table["rows"], miou)
    # ``over_seeds`` takes shares and keeps its interval within -1..1.
    over = over_seeds(found)
    if over is None:
        raise SystemExit("one seed says nothing of others: reidpipe run --seed 0-4")
    span = max(miou.values()) - min(miou.values())
    low, high = (span * end for end in over.interval)
    print(
        f"{len(found)} seeds: from the worst maps to the best ({span:.1f} points of mIoU) mAP "
        f"changes by {span * over.value:+.2f} points, 95 % {low:+.2f} to {high:+.2f}, p "
        f"{over.p:.3f}; a change of {span * over.sees:.2f} would be found with a chance of .8"
    )


if __name__ == "__main__":
    main()
