"""For which queries are two recipes different, over all seeds of a table? On drawn people, whose
captions tell how each stands, what hides it and what it wears.

python changed.py WORKSPACE TABLE.json BASE OTHER: the workspace and the table of ``reidpipe run
--json``, and two of its recipes. Gains are of OTHER over BASE in AP, mean over the seeds; intervals
are over people, 95 %, of each kind alone.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.runs import find_run
from pipeline.artifacts.store import Workspace
from pipeline.datasets.index import ImageRow, read_index
from reid_train.evaluation.statistics.paired import over_people
from reid_train.evaluation.stored_ranking import StoredRanking

SIDES = {"seen from the front": "front", "seen from behind": "back", "seen from the side": "side"}


def rankings(workspace: Workspace, keys: list[str]) -> list[StoredRanking]:
    """The rankings of evaluations, in the order of their keys; ends where one is not there."""
    whole = [artifact for artifact in workspace.find("evaluation") if artifact.complete]
    found = {artifact.key: artifact.folder for artifact in whole}
    if gone := sorted(set(keys) - set(found)):
        raise SystemExit(f"found no evaluation {gone[0]}; type the line of the table again")
    return [StoredRanking.read(found[key] / "ranking.npz") for key in keys]


def gains(base: list[StoredRanking], other: list[StoredRanking]) -> np.ndarray:
    """(Q,) AP of the other recipe less that of the first, mean over seeds, which go in pairs."""
    return np.mean([b.ap - a.ap for a, b in zip(base, other, strict=True)], axis=0)


def kinds(caption: str, likeness: float, middle: float) -> list[str]:
    """What a query is: how its person is turned, whether something hides it, whether somebody else
    wears much the same (``likeness`` above the ``middle`` of all).
    """
    turned = [name for words, name in SIDES.items() if words in caption]
    hidden = "partly hidden" if "hidden by" in caption else "whole"
    worn = "clothes like another's" if likeness > middle else "clothes of its own"
    return [*turned, hidden, worn]


def clothes(caption: str) -> set[str]:
    """Words of what a caption says is worn, without those that are in every one."""
    worn = re.search(r"wearing (.*?), (?:carrying|standing|walking)", caption)
    return set(re.findall(r"[a-z]+", worn.group(1) if worn else "")) - {"a", "an", "and", "of"}


def alike(rows: Mapping[str, ImageRow], keys: list[str]) -> np.ndarray:
    """(Q,) the largest share of words of clothes that a query's person has in common with another
    person of the queries (Jaccard index).
    """
    worn = {int(rows[key].pid or 0): clothes(rows[key].extra["caption"]) for key in keys}
    closest = {
        pid: max(len(mine & b) / max(1, len(mine | b)) for other, b in worn.items() if other != pid)
        for pid, mine in worn.items()
    }
    return np.array([closest[int(rows[key].pid or 0)] for key in keys])


def told(rows: Mapping[str, ImageRow], keys: list[str], gained: np.ndarray) -> list[str]:
    """A line for all queries and for each kind of them."""
    likeness = alike(rows, keys)
    middle = float(np.median(likeness))
    named = [
        ["all", *kinds(rows[key].extra["caption"], like, middle)]
        for key, like in zip(keys, likeness, strict=True)
    ]
    pids = np.array([rows[key].pid for key in keys])
    lines = []
    for kind in sorted({name for names in named for name in names}):
        mine = np.flatnonzero([kind in names for names in named])
        over = over_people(gained[mine], pids[mine])
        low, high = (100 * end for end in over.interval)
        lines.append(
            f"{kind}: {len(mine)} queries of {len(set(pids[mine]))} people, "
            f"AP {100 * over.value:+.1f} ({low:+.1f} to {high:+.1f})"
        )
    return lines


def main() -> None:
    workspace = Workspace(Path(sys.argv[1]))
    table: list[dict[str, Any]] = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))["rows"]
    named = {row["recipe"]: row for row in table}
    first, second = (named[recipe] for recipe in sys.argv[3:5])
    if first["seeds"] != second["seeds"]:
        raise SystemExit(f"found seeds {first['seeds']} and {second['seeds']}; expected the same")
    base, other = (rankings(workspace, row["evaluations"]) for row in (first, second))
    index = find_run(workspace, first["runs"][0]).model.inputs["index"]
    rows = {row.key: row for row in read_index(workspace.folder(index)).rows}
    keys = [str(key) for key in base[0].query_keys]
    print(f"{sys.argv[4]} less {sys.argv[3]}, {len(base)} seeds; {first['protocol']}")
    print("\n".join(told(rows, keys, gains(base, other))))


if __name__ == "__main__":
    main()
