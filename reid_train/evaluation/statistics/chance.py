"""What a random ranking gives: the mAP below which a model has learnt nothing."""

from __future__ import annotations

import numpy as np

from pipeline.datasets.manifest import Protocol
from reid_train.evaluation.exclusion import Matches


def chance_ap(positives: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Expected average precision (Q,) float64 of a random order of ``images`` (Q,) gallery images,
    ``positives`` (Q,) of which are right; 0 where none is.

    With P of n: rank i is right with probability P/n, and then (P-1)/(n-1) of the i-1 ranks before
    it are, so that AP = (1/P) sum over right ranks of precision has the expectation
    (1/n) sum_i (1 + (i-1)(P-1)/(n-1)) / i = (H_n + (n - H_n)(P-1)/(n-1)) / n, with the harmonic
    number H_n. Exact (Y. Bestgen, "Exact expected average precision of the random baseline for
    system evaluation", Prague Bulletin of Mathematical Linguistics 103, 2015).
    """
    positives, images = np.asarray(positives, np.float64), np.asarray(images, np.float64)
    harmonic = _harmonic(images)
    others = (positives - 1) / np.maximum(images - 1, 1)
    found = (harmonic + (images - harmonic) * others) / np.maximum(images, 1)
    return np.where(positives > 0, found, 0.0)


def chance_top(positives: np.ndarray, images: np.ndarray, top: int) -> np.ndarray:
    """The same where only the first ``top`` ranks count and AP is divided by the hits there
    (``found-in-top-k``): 0 without a hit.

    With h hits among the first k their places are a random order of k, and ``chance_ap(h, k)`` is
    linear in h from 1 on; so the expectation needs P(h > 0) and E[h] = kP/n alone.
    """
    from scipy.special import gammaln

    positives, images = np.asarray(positives, np.float64), np.asarray(images, np.float64)
    k = np.minimum(top, images)

    def ways(n: np.ndarray) -> np.ndarray:
        """log of n over k, for n >= k."""
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    wrong = images - positives
    none = np.where(wrong >= k, np.exp(ways(np.maximum(wrong, k)) - ways(images)), 0.0)
    harmonic = _harmonic(k)
    slope = (k - harmonic) / np.maximum(k - 1, 1)
    hits = k * positives / np.maximum(images, 1)
    found = ((1 - none) * (harmonic - slope) + slope * hits) / np.maximum(k, 1)
    return np.where((positives > 0) & (k > 0), found, 0.0)


def chance_map(matches: Matches, valid: np.ndarray, gallery: int, protocol: Protocol) -> float:
    """The mean over the valid queries (Q,) bool of one trial, of ``gallery`` images each."""
    right, hidden = matches.sizes()
    positives, images = right[valid], gallery - hidden[valid]
    if protocol.top_k is None:
        return float(chance_ap(positives, images).mean())
    return float(chance_top(positives, images, protocol.top_k).mean())


def _harmonic(numbers: np.ndarray) -> np.ndarray:
    """H_n = 1 + 1/2 + ... + 1/n of whole numbers, any shape."""
    sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, max(1, int(numbers.max())) + 1))])
    return sums[numbers.astype(np.int64)]
