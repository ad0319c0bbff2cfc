"""Label maps made of label maps: the central body alone, or damaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from parsing_models.bodies import centred
from parsing_models.parsers.damage import damaged
from pipeline.artifacts.running import Counter
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.writing import MapWriter

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Job

Change = Callable[[np.ndarray, str], np.ndarray | None]


def centre(job: Job) -> dict[str, Any]:
    """Worker of the step "centred": the maps of the input ``maps`` with the central body alone
    where there are two (``parsing_models.bodies.centred``); the rest as they are.

    Confidence stays the parser's: how sure it was of the label that stood there. Returns the
    summary: ``images``, and names of the images whose maps were ``changed``.
    """
    reader = LabelMapReader(job.inputs["maps"])
    changed = []

    def alone(label: np.ndarray, key: str) -> np.ndarray | None:
        found = centred(label)
        if found is not None:
            changed.append(key)
        return found

    _rewrite(job, reader, alone, {"centre_person": 1})
    return {"images": len(reader), "changed": sorted(changed)}


def damage(job: Job) -> dict[str, Any]:
    """Worker of the step "damaged": the maps of the input ``maps``, damaged.

    params: ``model``, what these maps are called; ``amounts``, by name of ``DAMAGE`` in
    ``parsing_models.parsers.typed``.
    Confidence stays the parser's, who does not know. Returns the summary: ``images``, and
    ``equal``, the share of all labels that are as before.
    """
    reader = LabelMapReader(job.inputs["maps"])
    amounts: Mapping[str, float] = job.params["amounts"]
    equal = 0.0

    def worse(label: np.ndarray, key: str) -> np.ndarray:
        nonlocal equal
        found = damaged(label, key, amounts, reader.label_set)
        equal += float((found == label).mean())
        return found

    _rewrite(job, reader, worse, {"model": job.params["model"]})
    return {"images": len(reader), "equal": equal / len(reader)}


def _rewrite(
    job: Job, reader: LabelMapReader, change: Change, attributes: Mapping[str, Any]
) -> None:
    """Every map as ``change`` makes it, or as it is where that gives None."""
    made_by = {**reader.made_by, **attributes}
    count = Counter(job.running, len(reader))
    with MapWriter(job.folder, reader.label_set, made_by, reader.size) as writer:
        for key in reader:
            label, confidence = reader[key]
            changed = change(label, key)
            writer.add(
                key,
                label if changed is None else changed,
                confidence,
                source_size=reader.source_size(key),
                source_digest=reader.source_digest(key),
            )
            count.add(1)
