"""Which similarity says "the same person": histograms, operating points, a threshold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from reid_train.evaluation.exclusion import Matches
from reid_train.evaluation.similarity import NAMES, similarities
from reid_train.models import COSINE

BINS = 2000
RATES = (0.1, 0.01, 0.001, 0.0001)
RATE = 0.01


class PairStatistics:
    """Counts similarities of same-person and different-person pairs in passing.

    Bins are 1/1000 wide over the cosines -1..1, or 1/2000 of ``farthest`` over its negative..0 for
    Euclidean distances, so memory does not grow with the number of pairs; pairs that the exclusion
    rule hides are not counted.

    distance: "cosine" or "euclidean", as of a model. farthest: what no Euclidean distance is above.
    """

    def __init__(self, matches: Matches, *, distance: str = COSINE, farthest: float = 0.0) -> None:
        self.matches, self.distance = matches, distance
        self.farthest = max(farthest, 1e-12)
        self.same = np.zeros(BINS, np.int64)
        self.different = np.zeros(BINS, np.int64)

    def watch(self, chunks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Pass on chunks of squared distances (n, G), for the cosine between unit vectors,
        counting each pair.
        """
        for start, chunk in chunks:
            for place, row in enumerate(chunk, start):
                positives, excluded = self.matches.of(place)
                if self.distance == COSINE:
                    # d = 2 - 2 cos; bin of cos = floor((cos + 1) BINS / 2)
                    bins = ((4 - row) * (BINS / 4)).astype(np.int32)
                else:
                    near = self.farthest + similarities(row, self.distance)
                    bins = (near * (BINS / self.farthest)).astype(np.int32)
                np.clip(bins, 0, BINS - 1, out=bins)
                same = np.bincount(bins[positives], minlength=BINS)
                self.same += same
                self.different += np.bincount(bins, minlength=BINS) - same
                hidden = np.bincount(bins[excluded], minlength=BINS)
                self.different -= hidden
            yield start, chunk

    def summary(self) -> dict[str, Any]:
        """JSON values: pair counts, histograms of 100 bins, operating points and a threshold.

        Each point has the lowest threshold whose false positive rate (share of different-person
        pairs at or above it) is at most the wanted one, and the true positive rate there.
        ``threshold`` is that of a false positive rate of 1 %. None where no pair was seen.
        """
        low, high = (-1.0, 1.0) if self.distance == COSINE else (-self.farthest, 0.0)
        edges = np.linspace(low, high, BINS + 1)
        above_same = np.append(np.cumsum(self.same[::-1])[::-1], 0)
        above_different = np.append(np.cumsum(self.different[::-1])[::-1], 0)
        same, different = int(above_same[0]), int(above_different[0])
        points = []
        if same and different:
            for rate in RATES:
                place = int(np.argmax(above_different <= rate * different))
                points.append(
                    {
                        "wanted_fpr": rate,
                        "fpr": above_different[place] / different,
                        "tpr": above_same[place] / same,
                        "threshold": round(float(edges[place]), 6),
                    }
                )
        chosen = [point["threshold"] for point in points if point["wanted_fpr"] == RATE]
        return {
            "similarity": NAMES[self.distance],
            "threshold": chosen[0] if chosen else None,
            "threshold_fpr": RATE,
            "points": points,
            "pairs": {"same": same, "different": different},
            "histogram": {
                "edges": edges[:: BINS // 100].round(6).tolist(),
                "same": self.same.reshape(100, -1).sum(1).tolist(),
                "different": self.different.reshape(100, -1).sum(1).tolist(),
            },
        }
