"""What an evaluation needs of a dataset, told once the index is there and before other work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.datasets.check import unmatched
from pipeline.datasets.index import Index
from pipeline.datasets.protocols import exclusion
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.protocols import find_protocol, test_rows


def check_test(index: Index, params: Mapping[str, Any], *, run: str | None) -> None:
    """Raise ReidpipeError where ``index`` has no labels, no query or gallery, test images without
    identity, or no query with a match. params: of the evaluation step, ``protocol`` and
    ``exclude``. run: the run's name, for messages; None: not trained.
    """
    protocol = find_protocol(index.dataset, params["protocol"], index.definition)
    if any(row.pid is not None for row in index.rows):
        _check_splits(index, trained=run is not None)
    test = [*index.split("query"), *index.split("gallery")]
    exclude = exclusion(test, protocol, params["exclude"])
    for trial in range(protocol.trials):
        query, gallery = test_rows(index, protocol, trial=trial, run=run)
        if protocol.average_precision != "full" or protocol.top_k is not None:
            continue  # such a protocol counts queries without a match, too
        if len(unmatched(query, gallery, exclude)) == len(query):
            cure = {
                "same-camera": "from another camera; type --exclude same-image or --exclude none",
                "same-image": "besides the query itself; type --exclude none",
                "none": "by the same pid; correct the identities",
            }[exclude]
            raise ReidpipeError(
                f"found no valid query among {len(query)} of {index.dataset} under protocol "
                f"'{protocol.name}', exclude {exclude}; expected gallery images of their people "
                f"{cure}"
            )


def _check_splits(index: Index, *, trained: bool) -> None:
    """Of images of one's own, which have no other splits to be completed from."""
    manifest = index.manifest
    missing = [split for split in ("query", "gallery") if not index.split(split)]
    if not missing or manifest is None or not manifest.is_own:
        return
    has, again = sorted({row.split for row in index.rows}), " and train again" * trained
    cure = (
        f"type reidpipe prepare {manifest.typed} --holdout 0.3{again}"
        if has == ["train"]
        else f"add them and type reidpipe prepare {manifest.typed}"
    )
    raise ReidpipeError(
        f"found no {' and no '.join(missing)} image in {manifest.typed}, which has "
        f"{', '.join(has)}; expected both to evaluate on; {cure}"
    )
