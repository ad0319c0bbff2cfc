"""A dataset that was copied or moved: an index that comes out equal stands on the first one.

What is in an index's key of its files are their place, sizes and times (``fingerprints``), so that
a command asks cheaply whether they are the same. A copy on another disk has another place and
often other times. Its index is made anew, and where that has the same rows, digests of images and
label maps among them, everything made of the first one is what would be made of the second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.artifacts import atomic, graph
from pipeline.artifacts.executors.threads import cores_allowed
from pipeline.artifacts.mark import is_marked, read_mark
from pipeline.artifacts.shapes import wrong
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Execution, Workspace
from pipeline.datasets.index import same_tables
from pipeline.terminal.errors import DamagedFile

log = logging.getLogger(__name__)
# In the folder of an index that stands on another one: what is in that one's key.
COPY_OF = "copy-of.json"
# Where files are and when they were written; the rest of the parameters says how they are read.
_PLACE = frozenset(
    {
        "root", "fingerprint", "beside_fingerprint", "hidden_fingerprint",
        "lists", "lists_fingerprint",
    }
)  # fmt: skip


def standing(workspace: Workspace, step: Step) -> Step:
    """``step``, an index of images on disk, with the key of the first equal one in the workspace.

    Where a known dataset has other files, times or another place its index is made here: the keys
    of all that stands on it depend on what comes out. It is decided once, whatever is made again
    later. Raises DamagedFile for a decision that cannot be read.
    """
    folder = workspace.folder(step)
    if workspace.complete(step):
        first = _copied(folder)
        return step if first is None else replace(step, keyed=first)
    known = list(_alike(folder, step))
    if not known:
        return step
    dataset = step.params["dataset"]
    log.warning(
        "%s has other files, times or another place than when it was indexed; it is indexed again "
        "to see whether it holds the same",
        dataset,
    )
    graph.run(workspace, [step], Execution(workers=cores_allowed()))
    equal = [read_mark(other) for other in known if same_tables(folder, other)]
    if not equal:
        return step
    log.warning("%s holds the same: what was made of it is used", dataset)
    mark = min(equal, key=lambda mark: mark["started"])
    first = mark.get("keyed") or mark["params"]
    atomic.write_json(folder / COPY_OF, {"params": first})
    return replace(step, keyed=first)


def _copied(folder: Path) -> dict[str, Any] | None:
    """What is in the key of the index that this one stands on; None: it stands on none."""
    path = folder / COPY_OF
    if not path.is_file():
        return None
    found = atomic.read_json(path)
    if told := wrong(found, {"params": dict}):
        raise DamagedFile(
            f"found {path} with {told}; expected the index that this one is equal to; type "
            f"reidpipe cache rm {folder.name}"
        )
    return found["params"]


def _alike(folder: Path, step: Step) -> Iterator[Path]:
    """Folders of other indexes of the same dataset, read in the same way, that stand on none."""
    for place in sorted(folder.parent.glob("*/")):
        if place.name == folder.name or not is_marked(place):
            continue
        mark = read_mark(place)
        same = mark.get("version") == step.version and mark.get("weights") == dict(step.weights)
        if same and _reading(mark["params"]) == _reading(step.params) and _copied(place) is None:
            yield place


def _reading(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in _PLACE}
