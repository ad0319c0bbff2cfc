"""Exact retrieval evaluation: metrics, ranking, re-ranking and the neighbour graph."""

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
