"""What each query contributes to each measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reid_train.evaluation.statistics.stored import MEASURES


def per_query(
    ap: np.ndarray,
    inp: np.ndarray,
    first: np.ndarray,
    valid: np.ndarray,
    measures: Sequence[str] = MEASURES,
) -> np.ndarray:
    """(Q, M) float64 in 0..1 whose mean over queries is each of ``measures`` ("mAP", "mINP",
    "Rank-5"); NaN where a query does not count. Arguments: (Q,), as in ``RetrievalMetrics``.
    """

    def column(name: str) -> np.ndarray:
        if name == "mAP":
            return np.where(valid, ap, np.nan)
        if name == "mINP":
            return inp
        return np.where(valid, first < int(name.removeprefix("Rank-")), np.nan)

    return np.stack([column(name) for name in measures], axis=1)
