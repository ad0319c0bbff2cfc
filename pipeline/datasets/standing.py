"""A dataset that was copied or moved: an index that comes out equal stands on the first one.

What is in an index's key of its files are their place, sizes and times (``fingerprints``), so that
a command asks cheaply whether they are the same. A copy on another disk has another place and
often other times. Its index is made anew, and where that has the same rows, digests of images and
label maps among them, everything made of the first one is what would be made of the second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.artifacts import atomic
from pipeline.artifacts.checked import as_made
from pipeline.artifacts.mark import files_of, is_marked, read_mark
from pipeline.artifacts.shapes import wrong
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.datasets.index import ABOUT, keep_places, made_of, places_of
from pipeline.terminal.errors import DamagedFile

log = logging.getLogger(__name__)
# In the folder of an index that stands on another one: what is in that one's key.
COPY_OF = "copy-of.json"
# Parameter of a step that is compared when it is made; not in its key. Keys of other indexes.
ALIKE = "alike"
# Parameter for which of our corrections took part: most datasets are what they were without.
REVISION = "numbers"
# What does not say how images are read: these, where files are and when they were written.
_APART = frozenset(
    {
        ALIKE, REVISION,
        "root", "fingerprint", "beside_fingerprint", "hidden_fingerprint",
        "lists", "lists_fingerprint",
    }
)  # fmt: skip


def standing(workspace: Workspace, step: Step, make: Callable[[Step], object]) -> Step:
    """``step``, an index of images on disk, with the key of the first equal one in the workspace,
    whose images are read where ``step`` has them from now on.

    Where a known dataset has other files, times or another place its index is made here, by
    ``make``: the keys of all that stands on it depend on what comes out. It is decided with its
    making, whatever is made again later. Raises DamagedFile for a decision that cannot be read.
    """
    folder = workspace.folder(step)
    asked = not workspace.complete(step)
    if asked:
        alike = [other.name for other in _alike(workspace, step)]
        if not alike:
            return step
        log.warning(
            "%s has other files, times or another place than when it was indexed, or was by an "
            "older version; it is indexed again to see whether it holds the same",
            step.params["dataset"],
        )
        make(replace(step, params={**step.params, ALIKE: alike}, keyed=step.params))
    first = _copied(folder)
    stands = step if first is None else replace(step, keyed=first)
    if asked and first is not None:
        log.warning("%s holds the same: what was made of it is used", step.params["dataset"])
    _read_there(workspace, stands, step)
    return stands


def decide(folder: Path, alike: Sequence[str]) -> None:
    """While an index is made in ``folder``: write down the first of ``alike``, keys of finished
    ones, that it is equal to.
    """
    marks = [
        read_mark(other)
        for key in alike
        if is_marked(other := folder.parent / key) and _holds_the_same(folder, other)
    ]
    if marks:
        mark = min(marks, key=lambda mark: mark["started"])
        atomic.write_json(folder / COPY_OF, {"params": mark.get("keyed") or mark["params"]})


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


def _alike(workspace: Workspace, step: Step) -> Iterator[Path]:
    """Folders of other indexes of the same dataset, read in the same way, that stand on none."""
    for other in workspace.find(step.name):
        mark = other.mark()
        if mark is None or other.key == step.key:
            continue
        same = mark.get("version") == step.version and mark.get("weights") == dict(step.weights)
        if not same or _reading(mark["params"]) != _reading(step.params):
            continue
        if _copied(other.folder) is None:
            yield other.folder


def _reading(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in _APART}


def _holds_the_same(folder: Path, other: Path) -> bool:
    """Whether an index in the making has the rows, and the files of its own, of a finished one."""
    made = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    files = {name: entry["sha256"] for name, entry in read_mark(other)["files"].items()}
    return (
        _compared(made) == _compared(files)
        and _placeless(folder) == _placeless(other)
        and all(as_made(made[name])["sha256"] == files[name] for name in _compared(made))
    )


def _compared(files: Iterable[str]) -> set[str]:
    return set(files) - {ABOUT, COPY_OF}


def _placeless(folder: Path) -> dict[str, Any]:
    """What is said of an index, but for a root outside of it."""
    about = atomic.read_json(folder / ABOUT)
    return about if made_of(folder).is_relative_to(folder) else {**about, "root": None}


def _read_there(workspace: Workspace, stands: Step, step: Step) -> None:
    """The images of the index of ``stands`` are read from now on where that of ``step``, of today,
    has them; and those of an index that they were equal to before are not.
    """
    base, folder = workspace.folder(stands), workspace.folder(step)
    root = made_of(folder)
    if root.is_relative_to(folder) or not is_marked(base):
        return
    keep_places(base, [root, *(place for place in places_of(base) if place != root)])
    for other in _alike(workspace, step):
        left = [place for place in places_of(other) if place != root]
        if other != base and left:
            keep_places(other, left)
