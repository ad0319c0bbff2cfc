"""How one set of queries is scored against one gallery under a named protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.datasets.catalogue import defined
from pipeline.datasets.index import ImageRow, Index
from pipeline.datasets.manifest import Protocol
from pipeline.datasets.protocols import DRAWN_BY, apply_protocol
from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.evaluation.exclusion import Matches
from reid_train.evaluation.metrics import RetrievalMetrics, score
from reid_train.evaluation.order import Orders, pieces
from reid_train.evaluation.ranking import nearest_first

STANDARD = Protocol(name="standard", note="same identity and camera left out, full AP")
COURSE = Protocol(
    name="course",
    note="no camera rule, identical image kept, AP over the hits among the first 10",
    exclude="none",
    top_k=10,
    average_precision="found-in-top-k",
)
BUILT_IN = {protocol.name: protocol for protocol in (STANDARD, COURSE)}


def find_protocol(dataset: str, name: str, definition: Mapping[str, Any] | None = None) -> Protocol:
    """The protocol ``name`` of a dataset; its manifest goes before the two every dataset has.
    definition: of a dataset that is not in the package, as its index has it.

    Raises ReidpipeError naming the nearest valid protocol.
    """
    manifest = defined(dataset, definition)
    if manifest is not None:
        listed = {protocol.name for protocol in (manifest.default_protocol, *manifest.protocols)}
        if name in listed or name not in BUILT_IN:
            return manifest.protocol(name)
    if name not in BUILT_IN:
        raise ReidpipeError(
            f"found protocol '{name}'{nearest(name, BUILT_IN)}; {dataset} has "
            f"{', '.join(BUILT_IN)}; type --protocol standard"
        )
    return BUILT_IN[name]


def test_rows(
    index: Index, protocol: Protocol, *, trial: int = 0, run: str | None = "RUN"
) -> tuple[list[ImageRow], list[ImageRow]]:
    """Query and gallery rows of one trial. run: the name of the run that is evaluated, for
    messages; None of one that is not trained yet.

    Raises ReidpipeError for a set without labels, without query or gallery, and for a test image
    without identity.
    """
    if index.rows and all(row.pid is None for row in index.rows):
        search = (
            f"embed {run} {index.root} --out gallery, then reidpipe search {run} IMAGE gallery"
            if run is not None
            else "train in place of run, then reidpipe embed and reidpipe search"
        )
        raise ReidpipeError(
            f"found {len(index.rows)} images without labels in {index.dataset}; expected query and "
            f"gallery images with a pid to evaluate on; type reidpipe {search}, which need none"
        )
    query, gallery = apply_protocol(index.rows, protocol, trial=trial)
    unnamed = [row.key for row in (*query, *gallery) if row.pid is None]
    if unnamed:
        raise ReidpipeError(
            f"found {len(unnamed)} test images without identity, the first is {unnamed[0]}; "
            "expected a pid for each; correct index.csv or prepare the dataset again"
        )
    return query, gallery


def told(protocol: Protocol, gallery: Sequence[ImageRow]) -> dict[str, Any]:
    """What of a protocol must be said beside its figures, where it is not usual: ``trials``,
    ``shots`` and who drew them, ``unit``, ``cmc``. gallery: of one trial.
    """
    found: dict[str, Any] = {}
    if protocol.trials > 1:
        found["trials"] = protocol.trials
    if protocol.shots is not None:
        found |= {"shots": protocol.shots, DRAWN_BY: gallery[0].extra.get(DRAWN_BY, "")}
    if protocol.unit != "image":
        found["unit"] = protocol.unit
    if protocol.cmc != "images":
        found["cmc_counts"] = protocol.cmc
    return found


def score_protocol(
    chunks: Iterable[tuple[int, np.ndarray]],
    *,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    matches: Matches,
    protocol: Protocol,
    max_rank: int = 50,
    orders: Orders | None = None,
) -> RetrievalMetrics:
    """Metrics from (first query, distances (n, G)) chunks as ``protocol`` counts them. orders: of
    ``matches``, where others have looked at these chunks.
    """
    if protocol.top_k is None:
        people = g_pids if protocol.cmc == "identities" else None
        return score(chunks, len(q_pids), matches, max_rank, people, orders)
    orders = orders or Orders(matches)
    return _score_top(chunks, q_pids, g_pids, orders, protocol.top_k, max_rank)


def _score_top(
    chunks: Iterable[tuple[int, np.ndarray]],
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    orders: Orders,
    top_k: int,
    max_rank: int,
) -> RetrievalMetrics:
    """Only the first ``top_k`` ranks count, as in the COL780 reports.

    AP = mean precision at the hits found there, divided by the number found and not by the number
    that exist; 0 without a hit. Every query counts, also one without a match in the gallery: all
    are ``valid``. CMC stays flat from rank ``top_k`` on; ``first`` is ``max_rank`` where no hit is.
    INP needs the whole ranking and is taken from it, over the queries that have a match; the
    reports do not give it.
    """
    ap, inp = np.zeros(len(q_pids)), np.full(len(q_pids), np.nan)
    first = np.full(len(q_pids), max_rank)
    for start, piece in (part for chunk in chunks for part in pieces(*chunk)):
        _, hidden = orders.matches.pairs(start, start + len(piece))
        for row, place in zip(piece, range(start, start + len(piece)), strict=True):
            left_out = hidden.gallery[slice(*hidden.bounds[place - start :][:2])]
            top = nearest_first(row, min(top_k, len(row)), left_out)
            hits = np.flatnonzero(g_pids[top] == q_pids[place])
            if len(hits):
                ap[place] = np.mean(np.arange(1, len(hits) + 1) / (hits + 1))
                first[place] = hits[0]
        query, found = orders.of(start, piece).ranks()
        asked, sizes = np.unique(query, return_counts=True)
        inp[start + asked] = sizes / (found[np.cumsum(sizes) - 1] + 1)
    counts = np.bincount(first[first < max_rank], minlength=max_rank)
    if not len(ap):
        raise ValueError("no valid query: there are no queries")
    known = ~np.isnan(inp)
    return RetrievalMetrics(
        cmc=np.cumsum(counts) / len(ap),
        mAP=np.float64(ap.mean()),
        mINP=np.float64(inp[known].mean() if known.any() else 0.0),
        ap=ap,
        valid=np.ones(len(ap), bool),
        inp=inp,
        first=first,
    )


def mean_of_trials(trials: Sequence[RetrievalMetrics]) -> RetrievalMetrics:
    """Average over repeated draws of the gallery (VehicleID); what is per query is the first's."""
    return RetrievalMetrics(
        cmc=np.mean([trial.cmc for trial in trials], axis=0),
        mAP=np.float64(np.mean([trial.mAP for trial in trials])),
        mINP=np.float64(np.mean([trial.mINP for trial in trials])),
        ap=trials[0].ap,
        valid=trials[0].valid,
        inp=trials[0].inp,
        first=trials[0].first,
    )
