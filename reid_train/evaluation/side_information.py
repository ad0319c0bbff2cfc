"""Which camera and view a model is told of an image: of the set it was trained on, of no other.

Row 3 of a table of cameras is the fourth camera of one data set. Another set's fourth camera is
another camera: there, and where cameras are unknown, the table is left out, as the authors do for
features that shall not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts.checked import read_json
from pipeline.artifacts.store import MARK
from pipeline.datasets.catalogue import defined
from pipeline.datasets.sources import GENERATED
from reid_train.evaluation.results import ELSEWHERE

if TYPE_CHECKING:
    from pipeline.datasets.index import ImageRow, Index
    from reid_train.models.deployable import ReidModel

OWN = "folder"
_COLUMNS = {"camids": "camid", "views": "view"}
_WORDS = {"camids": "camera", "views": "view"}


@dataclass(frozen=True)
class SideInformation:
    """given: what the images of a data set tell a model beside their pixels, of ``camids`` and
    ``views``. told: one line about the model's table; None where it has none.
    """

    given: tuple[str, ...] = ()
    told: str | None = None

    @property
    def used(self) -> bool:
        """Whether rows of a table enter the features."""
        return self.told is not None and bool(self.given)

    def of(self, rows: Sequence[ImageRow]) -> dict[str, np.ndarray]:
        """Keyword arguments of the model for these images: int64 (N,) each."""
        from reid_train.data.dataset import all_known

        found = {name: all_known([getattr(r, _COLUMNS[name]) for r in rows]) for name in self.given}
        return {name: values for name, values in found.items() if values is not None}


def side_information(
    model: ReidModel, folder: Path, source: Path, index: Index, rows: Sequence[ImageRow]
) -> SideInformation:
    """What a model is told of ``rows`` of a data set, which it shall all see in the same way.

    folder: the model's artifact, source: the index's, index: what is in it. Given is what all rows
    have and the model has a row for, if the set is the one it was trained on; all of it or nothing.
    """
    tables = model.side_tables
    if not tables:
        return SideInformation()
    reason = _elsewhere(folder, source, index)
    for name, count in tables.items():
        numbers = [getattr(row, _COLUMNS[name]) for row in rows]
        unknown = numbers.count(None)
        beyond = sorted(
            {number for number in numbers if not (number is None or 0 <= number < count)}
        )
        if reason is None and unknown:
            reason = f"{unknown} of {len(rows)} images of {index.dataset} have no {_WORDS[name]}"
        if reason is None and beyond:
            reason = f"{index.dataset} has {_WORDS[name]} {beyond[0]}, beyond the table's {count}"
    if reason is not None:
        return SideInformation(told=left_out(model, reason))
    return SideInformation(tuple(tables), f"{_table(model)} used: trained on {index.dataset}")


def left_out(model: ReidModel, reason: str) -> str | None:
    """The line about a table that is not used; None for a model without one."""
    return f"{_table(model)} left out: {reason}" if model.side_tables else None


def _table(model: ReidModel) -> str:
    counts = [f"{count} {_WORDS[name]}s" for name, count in model.side_tables.items()]
    return f"table of {' and '.join(counts)}"


def _elsewhere(folder: Path, source: Path, index: Index) -> str | None:
    """Why the cameras of a data set are not those a model was trained on; None when they are.

    Variants of a published set on disk have one set of cameras. Sets of one's own with one name are
    told apart by their roots, generated ones by all that they are drawn from.
    """
    from reid_train.engine.checkpoint import META

    name = read_json(folder / META).get("dataset")
    if name in (None, ELSEWHERE):
        return (
            "nobody said which set the file was trained on "
            "(reidpipe import FILE --trained-on DATASET does)"
        )
    if (trained_on := defined(name, None)) is not None:
        name = trained_on.dataset  # with the variant that is meant where none is named
    tested_on = index.manifest.dataset if index.manifest else index.dataset
    other = f"it was trained on {name}, these images are of {index.dataset}"
    own = index.definition is not None or index.dataset.partition(":")[0] in (OWN, GENERATED)
    if not own:
        same = name.partition(":")[0] == index.dataset.partition(":")[0]
        return None if same else other
    if name != tested_on:
        return other
    trained, tested = _made_of(folder, "index"), _made_of(source)
    if trained is None or tested is None:
        return None
    if "root" not in tested:
        return None if trained == tested else f"{other} drawn in another way"
    if trained.get("root") != tested["root"]:
        return f"it was trained on {name} in {trained.get('root')}, not in {tested['root']}"
    return None


def _made_of(folder: Path, source: str | None = None) -> dict[str, Any] | None:
    """What stands in the key of the artifact in ``folder``, or of what it was made from; None if
    unknown.
    """
    if not (folder / MARK).is_file():
        return None
    step = read_json(folder / MARK)
    if source is not None:
        step = step["inputs"].get(source)
    return None if step is None else dict(step.get("keyed") or step["params"])
