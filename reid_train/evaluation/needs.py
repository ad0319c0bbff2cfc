"""What an evaluation needs of a dataset, told once the index is there and before other work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.datasets.check import unmatched
from pipeline.datasets.index import Index
from pipeline.datasets.protocols import exclusion
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.protocols import find_protocol, test_rows


def check_test(index: Index, params: Mapping[str, Any], *, run: str | None = None) -> None:
    """Raise ReidpipeError where ``index`` has no query or gallery, test images without identity, or
    no query with a match. params: of the evaluation step, ``protocol`` and ``exclude``. run: see
    ``test_rows``.
    """
    protocol = find_protocol(index.dataset, params["protocol"], index.definition)
    manifest, test = index.manifest, [*index.split("query"), *index.split("gallery")]
    missing = [split for split in ("query", "gallery") if not index.split(split)]
    labelled = any(row.pid is not None for row in index.rows)
    if labelled and missing and manifest is not None and manifest.is_own:
        has = sorted({row.split for row in index.rows})
        cure = (
            f"type reidpipe prepare {manifest.typed} --holdout 0.3 and train again"
            if has == ["train"]
            else f"add them and type reidpipe prepare {manifest.typed}"
        )
        raise ReidpipeError(
            f"found no {' and no '.join(missing)} image in {index.dataset}, which has "
            f"{', '.join(has)}; expected both to evaluate on; {cure}"
        )
    exclude = exclusion(test, protocol, params["exclude"])
    for trial in range(protocol.trials):
        query, gallery = test_rows(index, protocol, trial=trial, run=run)
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
