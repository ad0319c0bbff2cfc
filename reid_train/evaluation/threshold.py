"""Which similarity says "the same person": pairs counted while distances are scored."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from reid_train.evaluation.calibration import (
    BINS,
    Calibration,
    edges,
    quantiles,
    resampled_shares,
)
from reid_train.evaluation.exclusion import Matches, Pairs
from reid_train.evaluation.order import pieces
from reid_train.evaluation.similarity import NAMES, similarities
from reid_train.models import COSINE

RATES = (0.1, 0.01, 0.001, 0.0001)
RATE = 0.01
SAMPLE = 2**17  # pairs that the bootstrap sees
ROWS = 2  # that are counted together


class PairStatistics:
    """Counts similarities of same-person and different-person pairs in passing.

    matches: the exclusion rule; pairs that it hides are not counted. q_pids (Q,), g_pids (G,):
    identities, for the bootstrap over people; without them it is left out. distance: "cosine" or
    "euclidean", as of a model; farthest: what no Euclidean distance is above. Bins are 1/1000 wide
    over the cosines, or farthest/2000 over the Euclidean distances, so memory does not grow with
    the number of pairs. about: what ``Calibration`` says of their origin.
    """

    def __init__(
        self,
        matches: Matches,
        q_pids: np.ndarray | None = None,
        g_pids: np.ndarray | None = None,
        *,
        distance: str = COSINE,
        farthest: float = 0.0,
        about: dict[str, Any] | None = None,
    ) -> None:
        self.matches, self.distance, self.about = matches, distance, about or {}
        self.farthest = max(farthest, 1e-12)
        self.same = np.zeros(BINS, np.int64)
        self.different = np.zeros(BINS, np.int64)
        self.people, self.query, self.gallery = 0, None, None
        self.pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.matched: list[tuple[np.ndarray, np.ndarray]] = []
        if q_pids is not None and g_pids is not None:
            names, codes = np.unique(np.concatenate([q_pids, g_pids]), return_inverse=True)
            self.people = len(names)
            self.query, self.gallery = np.split(codes.astype(np.int32), [len(q_pids)])
            self.stride = max(1, -(-len(q_pids) * len(g_pids) // SAMPLE))
            matches_at_most = np.bincount(self.gallery, minlength=self.people)[self.query].sum()
            self.thinned = max(1, -(-int(matches_at_most) // (4 * SAMPLE)))

    def watch(self, chunks: Iterator[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """Pass on chunks of squared distances (n, G), counting each pair: between unit vectors for
        the cosine, between features for the Euclidean distance.
        """
        for start, chunk in chunks:
            for first, piece in pieces(start, chunk):
                self._count(first, piece)
            yield start, chunk

    def _count(self, first: int, piece: np.ndarray) -> None:
        right, hidden = self.matches.pairs(first, first + len(piece))
        same = self._bins(piece[right.query, right.gallery])
        self.same += (counted := np.bincount(same, minlength=BINS))
        self.different -= counted
        # Few rows at a time, so that what is made of them stays in the nearest cache.
        for start in range(0, len(piece), ROWS):
            bins = self._bins(piece[start : start + ROWS])
            self.different += np.bincount(bins.reshape(-1), minlength=BINS)
        left_out = self._bins(piece[hidden.query, hidden.gallery])
        self.different -= np.bincount(left_out, minlength=BINS)
        if self.query is not None and self.gallery is not None:
            self._note(first, piece, right, same, self.query, self.gallery)

    def _bins(self, squared: np.ndarray) -> np.ndarray:
        """Numbers int64 of the bins of squared distances, any shape."""
        if self.distance == COSINE:
            # d = 2 - 2 cos; bin of cos = floor((cos + 1) BINS / 2)
            places = 4 - squared
            places *= BINS / 4
        else:
            places = self.farthest + similarities(squared, self.distance)
            places *= BINS / self.farthest
        bins = places.astype(np.int64)
        # Hardly ever: a distance below 0 by rounding.
        if not (places.min(initial=0) >= 0 and places.max(initial=0) < BINS):
            np.clip(bins, 0, BINS - 1, out=bins)
        return bins

    def _note(
        self,
        first: int,
        piece: np.ndarray,
        right: Pairs,
        same: np.ndarray,
        query: np.ndarray,
        gallery: np.ndarray,
    ) -> None:
        """Keep every ``stride``-th pair of different people for the bootstrap, and of the same.
        piece: distances (n, G) of queries from ``first`` on; same: bins of the pairs ``right``.
        """
        places = np.arange(first, first + len(piece))
        number = np.arange(len(right)) - right.bounds[right.query]
        kept = number % self.thinned == places[right.query] % self.thinned
        self.matched.append((query[places[right.query[kept]]], same[kept].astype(np.int16)))
        chosen = (places % self.stride)[:, None] + np.arange(0, piece.shape[1], self.stride)
        row, column = np.nonzero(chosen < piece.shape[1])
        chosen = chosen[row, column]
        others = gallery[chosen] != query[places[row]]
        others &= ~self.matches.hides(places[row], chosen)
        row, chosen = row[others], chosen[others]
        bins = self._bins(piece[row, chosen]).astype(np.int16)
        self.pairs.append((query[places[row]], gallery[chosen], bins))

    def summary(self) -> dict[str, Any]:
        """JSON values: pair counts, histograms of 100 bins, operating points and a threshold.

        Each point has the lowest threshold whose false positive rate (share of different-person
        pairs at or above it) is at most the wanted one, the true positive rate there, and their
        intervals as ``Threshold`` has them. ``threshold`` is that of a false positive rate of 1 %.
        ``calibration`` (see ``Calibration``) gives that of any rate. None where no pair was seen.
        """
        calibration = self.calibration()
        points = []
        for rate in RATES if calibration else ():
            found = calibration.threshold(rate) if calibration else None
            if found is not None:
                point = found.model_dump(
                    include={"wanted_fpr", "fpr", "tpr", "fpr_interval", "tpr_interval", "interval"}
                )
                points.append({**point, "threshold": found.similarity})
        chosen = [point["threshold"] for point in points if point["wanted_fpr"] == RATE]
        limits = edges(self.distance, self.farthest)
        return {
            "similarity": NAMES[self.distance],
            "threshold": chosen[0] if chosen else None,
            "threshold_fpr": RATE,
            "points": points,
            "pairs": {"same": int(self.same.sum()), "different": int(self.different.sum())},
            "people": self.people or None,
            "histogram": {
                "edges": limits[:: BINS // 100].round(6).tolist(),
                "same": self.same.reshape(100, -1).sum(1).tolist(),
                "different": self.different.reshape(100, -1).sum(1).tolist(),
            },
            "calibration": None if calibration is None else calibration.model_dump(),
        }

    @cached_property
    def resampled(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """``resampled_shares`` of the pairs of different people and of the same, under the same
        draws of people.
        """
        from reid_train.engine.runtime import derive_seed

        seed = derive_seed(0, "threshold", "bootstrap")
        if not self.pairs:
            return None, None
        who, whom, bins = (np.concatenate(column) for column in zip(*self.pairs, strict=True))
        person, right = (np.concatenate(column) for column in zip(*self.matched, strict=True))
        return (
            resampled_shares(who, whom, bins, self.people, seed=seed),
            resampled_shares(person, None, right, self.people, seed=seed),
        )

    def calibration(self) -> Calibration | None:
        """What was counted; None where no pair was."""
        used = np.flatnonzero(self.same + self.different)
        if not len(used):
            return None
        part = slice(int(used[0]), int(used[-1]) + 1)
        shares = self.resampled[0]
        low, high = (None if shares is None else quantiles(shares)) or (None, None)
        return Calibration(
            distance="cosine" if self.distance == COSINE else "euclidean",
            farthest=None if self.distance == COSINE else self.farthest,
            first=part.start,
            same=self.same[part].tolist(),
            different=self.different[part].tolist(),
            low=None if low is None else _rounded(low[part]),
            high=None if high is None else _rounded(high[part]),
            people=self.people or None,
            **self.about,
        )


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
