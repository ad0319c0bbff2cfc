"""Same person or not: pairs counted by similarity, and the threshold of any error rate."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

BINS = 2000
CONFIDENCE = 0.95
RESAMPLES = 400
DRAWN = 2**22  # people that are drawn at one time, over all draws
Count = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class Part(BaseModel):
    """Base of what is stored beside features: no value is bent into another type. Unknown fields
    are passed over, so that a later version may add some."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


class Threshold(Part):
    """The similarity from which two images count as one person, and how often that errs.

    wanted_fpr: the share of pairs of different people it was chosen for. fpr, tpr: the shares of
    pairs of different people and of the same person at or above it when it was calibrated.
    fpr_interval, tpr_interval: their exact binomial intervals (``exact_interval``). interval: of
    the similarity itself, from a bootstrap over people (``Calibration``). pairs: how many there
    were of each kind; people: of how many. dataset, protocol, exclude: whose pairs they were;
    distance, flip: how their features were compared and made. All but the similarity are None where
    they are not known.
    """

    similarity: float
    wanted_fpr: float | None = None
    fpr: float | None = None
    tpr: float | None = None
    fpr_interval: Pair | None = None
    tpr_interval: Pair | None = None
    interval: Pair | None = None
    pairs: dict[Literal["same", "different"], Count] | None = None
    people: Count | None = None
    dataset: str | None = None
    protocol: str | None = None
    exclude: str | None = None
    distance: Literal["cosine", "euclidean"] | None = None
    flip: bool | None = None

    def passed(self, similarity: float) -> bool:
        """Whether it says "the same person" of two images."""
        return bool(similarity >= self.similarity)

    @property
    def few(self) -> int | None:
        """The pairs of different people it would take, where there were too few to see the wanted
        rate at all: of 3/rate pairs none passes in 5 % of all samples (the rule of three).
        """
        if self.pairs is None or not self.wanted_fpr:
            return None
        least = int(np.ceil(3 / self.wanted_fpr))
        return least if self.pairs["different"] < least else None


class Calibration(Part):
    """Counts of pairs by similarity, from which the threshold of any error rate follows.

    distance: ``cosine``: BINS equal bins over -1..1; ``euclidean``: over -farthest..0. first:
    number of the first bin listed; same, different: pairs per bin from there on; none outside. low,
    high: from every listed bin's lower edge on, the 2.5 % and 97.5 % quantiles of the share of
    different pairs at or above it, over RESAMPLES bootstraps that draw people with replacement: a
    pair counts as often as its two people were drawn, multiplied. (Pairs share people, so they are
    not independent; people nearly are.) None with fewer than three people. people: how many.
    dataset, protocol, exclude: whose pairs; flip: with the mirrored images' features added.

    The interval of a threshold lies between the lowest similarities at which the one quantile and
    the other keep the rate: the 2.5 % and 97.5 % quantiles of the bootstraps' own thresholds. What
    no pair showed no bootstrap shows: where fewer pairs than the rate's inverse were counted, only
    ``fpr_interval`` tells.
    """

    distance: Literal["cosine", "euclidean"] = "cosine"
    farthest: Annotated[float, Field(gt=0)] | None = None
    first: Annotated[int, Field(ge=0, lt=BINS)]
    same: list[Count]
    different: list[Count]
    low: list[Share] | None = None
    high: list[Share] | None = None
    people: Count | None = None
    dataset: str | None = None
    protocol: str | None = None
    exclude: str | None = None
    flip: bool = False

    @model_validator(mode="after")
    def _columns_belong_together(self) -> Calibration:
        lengths = {
            len(c) for c in (self.same, self.different, self.low, self.high) if c is not None
        }
        if len(lengths) != 1 or self.first + lengths.pop() > BINS:
            raise ValueError("columns of bins of different lengths")
        if (self.distance == "euclidean") != (self.farthest is not None):
            raise ValueError(f"distance {self.distance} with farthest {self.farthest}")
        return self

    @property
    def pairs(self) -> dict[Literal["same", "different"], int]:
        """How many pairs of the same person and of different people were counted."""
        return {"same": sum(self.same), "different": sum(self.different)}

    def threshold(self, rate: float) -> Threshold | None:
        """The lowest similarity (an edge of a bin) that at most a share ``rate`` (0..1) of the
        pairs of different people reaches; None where a kind of pairs is missing.
        """
        same, different = (above(np.array(c)) for c in (self.same, self.different))
        pairs = self.pairs
        if not (pairs["same"] and pairs["different"]):
            return None
        place = _first(different <= rate * pairs["different"])
        passed, right = int(different[place]), int(same[place])
        interval = None
        if self.low is not None and self.high is not None:
            ends = (_first(np.append(column, 0) <= rate) for column in (self.low, self.high))
            interval = [self.edge(end) for end in ends]
        return Threshold(
            similarity=self.edge(place),
            wanted_fpr=rate,
            fpr=passed / pairs["different"],
            tpr=right / pairs["same"],
            fpr_interval=exact_interval(passed, pairs["different"]),
            tpr_interval=exact_interval(right, pairs["same"]),
            interval=interval,
            pairs=pairs,
            people=self.people,
            dataset=self.dataset,
            protocol=self.protocol,
            exclude=self.exclude,
            distance=self.distance,
            flip=self.flip,
        )

    def edge(self, place: int) -> float:
        """The lower edge of listed bin ``place`` as a similarity."""
        return round(float(edges(self.distance, self.farthest)[self.first + place]), 6)


def edges(distance: str = "cosine", farthest: float | None = None) -> np.ndarray:
    """The BINS + 1 edges of the bins as similarities, ascending."""
    low, high = (-1.0, 1.0) if distance == "cosine" else (-(farthest or 0.0), 0.0)
    return np.linspace(low, high, BINS + 1)


def above(counts: np.ndarray) -> np.ndarray:
    """How many lie in each bin or above it, and none beyond the last: one entry more."""
    sums = np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1]
    return np.concatenate([sums, np.zeros_like(sums[..., :1])], axis=-1)


def _first(true: np.ndarray) -> int:
    return int(np.argmax(true))


def exact_interval(count: float, total: float, confidence: float = CONFIDENCE) -> list[float]:
    """The exact binomial interval of a share, for ``count`` of ``total`` independent trials: the
    shares that would give as few, or as many, in at least 2.5 % of samples. Numbers of trials may
    be broken ones.

    C. J. Clopper and E. S. Pearson, Biometrika 26 (1934). Pairs share people, so that the true
    uncertainty is rather larger.
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, total - count + 1, tail))
    high = 1.0 if count == total else float(betaincinv(count + 1, total - count, 1 - tail))
    return [low, high]


def resampled_shares(
    first: np.ndarray, second: np.ndarray | None, bins: np.ndarray, people: int, *, seed: int
) -> np.ndarray | None:
    """For each of RESAMPLES draws of people with replacement the share of pairs in each bin or
    above: (RESAMPLES, BINS + 1) float32, NaN in a row without a pair. Equal seeds draw the same
    people. None with fewer than three people or without a pair.

    first, second: (P,) numbers 0..people-1 of each pair's people, a pair counting as often as both
    were drawn, multiplied; second None: of pairs of one person, which count as often as that one
    was drawn. bins: (P,).
    """
    if people < 3 or not len(bins):
        return None
    rng = np.random.default_rng(seed)
    if second is None:  # few people have pairs in few bins: those are counted once
        cells, times = np.unique(first.astype(np.int64) * BINS + bins, return_counts=True)
        first, bins = np.divmod(cells, BINS)
    else:
        times = np.ones(1)
    order = np.argsort(bins, kind="stable")
    first, times = first[order], times[order] if second is None else times
    second = None if second is None else second[order]
    used, starts = np.unique(bins[order], return_index=True)
    parts = list(zip(used, starts, np.append(starts[1:], len(order)), strict=True))
    shares = np.full((RESAMPLES, BINS + 1), np.nan, np.float32)
    # Many draws at once, bin by bin: what is gathered and added lies side by side.
    together = max(1, min(RESAMPLES, DRAWN // people))
    for done in range(0, RESAMPLES, together):
        rows = shares[done : done + together]
        drawn = np.stack(
            [np.bincount(rng.integers(people, size=people), minlength=people) for _ in rows], axis=1
        )
        counts = np.zeros((len(rows), BINS))
        weigh = _Weights(drawn, first, second, times)
        for place, start, end in parts:
            counts[:, place] = weigh.sums(start, end)
        total = counts.sum(axis=1)
        seen = total > 0
        rows[seen] = above(counts[seen]) / total[seen, None]
    return shares


class _Weights:
    """How often pairs count in each of R draws. drawn: (people, R) how often each was drawn; others
    as of ``resampled_shares``, times: how often a pair of one person is there. Whole numbers, in a
    type that holds them: exact.
    """

    def __init__(
        self, drawn: np.ndarray, first: np.ndarray, second: np.ndarray | None, times: np.ndarray
    ) -> None:
        most = max(1, int(drawn.max())) ** 2
        small = second is not None and most <= 1024
        self.drawn = drawn.astype(np.uint16 if small else np.float64)
        self.rows = (2**16 - 1) // most if small else 1024
        self.first, self.second, self.times = first, second, times

    def sums(self, start: int, end: int) -> np.ndarray:
        """Of the pairs from ``start`` to ``end``, (R,) float64."""
        found = np.zeros(self.drawn.shape[1])
        for place in range(start, end, self.rows):
            part = slice(place, min(place + self.rows, end))
            weights = self.drawn[self.first[part]]
            if self.second is None:
                found += self.times[part] @ weights
            else:
                weights *= self.drawn[self.second[part]]
                found += np.add.reduce(weights, axis=0, dtype=weights.dtype)
        return found


def quantiles(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The 2.5 % and 97.5 % quantiles over the rows that are no NaN; None without such a row."""
    shares = shares[~np.isnan(shares).any(axis=1)]
    if not len(shares):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(shares, [tail, 1 - tail], axis=0, method="closest_observation")
    return low, high
