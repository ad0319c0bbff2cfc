"""The ROC curve from counted pairs, by hand, and what its intervals hold."""

from __future__ import annotations

import numpy as np
import pytest

from reid_train.evaluation.embeddings import Embeddings
from reid_train.evaluation.ranking import match_rule
from reid_train.evaluation.statistics.roc import places, roc
from reid_train.evaluation.threshold import PairStatistics


def counted(dist: np.ndarray, q_pids: np.ndarray, g_pids: np.ndarray) -> PairStatistics:
    sides = [Embeddings(np.empty((len(pids), 0)), pids) for pids in (q_pids, g_pids)]
    pairs = PairStatistics(match_rule(sides[0], sides[1], "none"), q_pids, g_pids)
    list(pairs.watch(iter([(0, dist.astype(np.float32))])))
    return pairs


def test_by_hand():
    # cosines .9 .6 .2 of the same person, .7 .5 .1 -.1 -.3 of others; distance 2 - 2 cos.
    cosines = np.array([[0.9, 0.6, 0.2, 0.7, 0.5, 0.1, -0.1, -0.3]])
    pairs = counted(2 - 2 * cosines, np.array([1]), np.array([1, 1, 1, 2, 3, 4, 5, 6]))
    curve, at, why = roc(pairs)
    assert curve is not None and at is not None
    assert curve.fpr[0] == pytest.approx(0.2) and curve.fpr[-1] == 1
    # Of 5 wrong pairs one may pass (.7 does): .9 and .6 do; all pass at 1.
    assert curve.tpr[0] == pytest.approx(2 / 3, abs=1e-5) and curve.tpr[-1] == 1
    assert at["0.1"].value == pytest.approx(1 / 3, abs=1e-5)  # none passes: above .7
    assert at["0.1"].interval is None and "fewer than 30 pairs" in why["tpr_at_fpr.0.1.interval"]
    assert (np.diff(curve.tpr) >= 0).all()


def test_intervals_hold_the_rate_and_are_reproducible():
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(30), 4)
    features = rng.normal(size=(30, 6))[pids] + 0.9 * rng.normal(size=(120, 6))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    dist = 2 - 2 * features @ features.T
    found = [roc(counted(dist, pids, pids)) for _ in range(2)]
    assert found[0] == found[1]
    curve, at, why = found[0]
    assert curve is not None and at is not None and curve.low is not None and curve.high is not None
    assert (np.array(curve.low) <= curve.tpr).all() and (np.array(curve.tpr) <= curve.high).all()
    interval = at["0.1"].interval
    assert interval is not None and 0.05 < interval[1] - interval[0] < 0.5
    assert set(why) == {"tpr_at_fpr.0.0001.interval"}  # 14,280 pairs, 30,000 needed


def test_no_pair_of_one_kind():
    curve, at, why = roc(counted(np.ones((1, 2)), np.array([1]), np.array([1, 1])))
    assert curve is None and at is None and why["roc"] == "no pair of different people"


def test_the_first_place_that_keeps_a_rate():
    shares = np.array([1, 0.5, 0.5, 0.2, 0])
    assert places(shares, np.array([1, 0.6, 0.5, 0.3, 0.1])).tolist() == [0, 1, 1, 3, 4]
