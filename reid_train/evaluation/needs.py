"""What an evaluation needs of a dataset, told once the index is there and before other work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.datasets.check import unmatched
from pipeline.datasets.exclusion import CLOTHES, RULES
from pipeline.datasets.index import ImageRow, Index
from pipeline.datasets.manifest import Protocol
from pipeline.datasets.protocols import exclusion
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.protocols import find_protocol, test_rows
from reid_train.evaluation.rerank import check_rerank


def check_test(index: Index, params: Mapping[str, Any], *, run: str | None) -> None:
    """Raise ReidpipeError where ``index`` has no labels, no query or gallery, test images without
    identity or without what the exclusion rule asks for, no query with a match, or too few images
    to re-rank. params: of the evaluation step, ``protocol``, ``exclude`` and ``rerank``. run: the
    run's name, for messages; None: not trained.
    """
    protocol = find_protocol(index.dataset, params["protocol"], index.definition)
    if any(row.pid is not None for row in index.rows):
        _check_splits(index, trained=run is not None)
    test = [*index.split("query"), *index.split("gallery")]
    exclude = exclusion(test, protocol, params["exclude"])
    for trial in range(protocol.trials):
        query, gallery = test_rows(index, protocol, trial=trial, run=run)
        _check_rule([*query, *gallery], protocol, exclude)
        if params.get("rerank") is not None:
            check_rerank(len(query) + len(gallery), params["rerank"]["k1"], params["rerank"]["k2"])
        if protocol.top_k is not None:
            continue  # such a protocol counts queries without a match, too
        if len(unmatched(query, gallery, exclude)) == len(query):
            cure = {
                "same-image": "type --exclude none",
                "none": "correct the identities",
            }.get(exclude, "type --exclude same-image or --exclude none")
            raise ReidpipeError(
                f"found no valid query among {len(query)} of {index.dataset} under protocol "
                f"'{protocol.name}', exclude {exclude}; expected gallery images of their people "
                f"{RULES[exclude].counted}; {cure}"
            )


def _check_rule(rows: list[ImageRow], protocol: Protocol, exclude: str) -> None:
    rule = RULES[exclude]
    unknown = [row.key for row in rows if rule.camera and row.camid is None]
    if unknown:
        raise ReidpipeError(
            f"found {len(unknown)} test images without a camera, the first is {unknown[0]}; the "
            f"rule '{exclude}' expects a camera for each image; type --exclude same-image or "
            "--exclude none"
        )
    bare = [row.key for row in rows if rule.clothes is not None and not row.extra.get(CLOTHES)]
    if bare:
        raise ReidpipeError(
            f"found {len(bare)} test images whose clothes are unknown, the first is {bare[0]}; the "
            f"rule '{exclude}' expects a column '{CLOTHES}'; type --exclude same-camera"
        )
    if protocol.unit == "track" and rule.image:
        raise ReidpipeError(
            f"found rule '{exclude}' for tracks of protocol '{protocol.name}'; expected one that "
            "whole tracks can follow; type --exclude same-camera or --exclude none"
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
