"""The course's protocol by hand, and averages over trials."""

from __future__ import annotations

import numpy as np
import pytest

from reid_train.evaluation.exclusion import Matches
from reid_train.evaluation.metrics import RetrievalMetrics
from reid_train.evaluation.protocols import (
    COURSE,
    STANDARD,
    find_protocol,
    mean_of_trials,
    score_protocol,
)


def run(protocol, dist, q_pids, g_pids):
    q_pids, g_pids = np.array(q_pids), np.array(g_pids)
    matches = Matches.build(
        "none", q_pids=q_pids, g_pids=g_pids, q_camids=None, g_camids=None, q_keys=None, g_keys=None
    )
    chunks = [(0, np.array(dist, np.float32))]
    ids = {"q_pids": q_pids, "g_pids": g_pids, "matches": matches, "protocol": protocol}
    return score_protocol(chunks, **ids)


def test_course_by_hand():
    # Person 1 at ranks 1, 3 and 12 of 12: only two hits are found, AP = (1/1 + 2/3) / 2.
    # Person 2 at rank 11 alone: no hit in the first ten, AP = 0. Person 9 is not there: AP = 0.
    gallery = [1, 3, 1, 3, 3, 3, 3, 3, 3, 3, 2, 1]
    found = run(COURSE, [list(range(12))] * 3, [1, 2, 9], gallery)
    assert found.ap.tolist() == [pytest.approx(5 / 6), 0, 0]
    assert found.mAP == pytest.approx(5 / 18)
    assert found.cmc[0] == pytest.approx(1 / 3) and found.cmc[-1] == pytest.approx(1 / 3)
    assert found.mINP == pytest.approx((3 / 12 + 1 / 11) / 2)
    assert found.valid.all()
    full = run(STANDARD, [list(range(12))] * 3, [1, 2, 9], gallery)
    assert full.ap[0] == pytest.approx((1 + 2 / 3 + 3 / 12) / 3)
    assert full.valid.tolist() == [True, True, False]


def test_every_dataset_has_the_two_protocols():
    assert find_protocol("no such set", "course") is COURSE
    assert find_protocol("no such set", "standard") is STANDARD


def test_trials_are_averaged():
    def trial(value):
        ap = np.array([value])
        return RetrievalMetrics(np.array([value, 1.0]), value, value / 2, ap, np.array([True]))

    mean = mean_of_trials([trial(0.2), trial(0.6)])
    assert mean.mAP == pytest.approx(0.4) and mean.mINP == pytest.approx(0.2)
    np.testing.assert_allclose(mean.cmc, [0.4, 1])
