"""Exact retrieval evaluation: metrics, ranking, re-ranking and the neighbour graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_train import lazy_names

if TYPE_CHECKING:
    from reid_train.evaluation.embeddings import Embeddings
    from reid_train.evaluation.metrics import RetrievalMetrics, evaluate, evaluate_distances
    from reid_train.evaluation.ranking import Ranking, rank
    from reid_train.evaluation.rerank import jaccard_graph, rerank_distances

__all__ = [
    "Embeddings",
    "Ranking",
    "RetrievalMetrics",
    "evaluate",
    "evaluate_distances",
    "jaccard_graph",
    "rank",
    "rerank_distances",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Embeddings": f"{__name__}.embeddings",
        "Ranking": f"{__name__}.ranking",
        "RetrievalMetrics": f"{__name__}.metrics",
        "evaluate": f"{__name__}.metrics",
        "evaluate_distances": f"{__name__}.metrics",
        "jaccard_graph": f"{__name__}.rerank",
        "rank": f"{__name__}.ranking",
        "rerank_distances": f"{__name__}.rerank",
    },
)
