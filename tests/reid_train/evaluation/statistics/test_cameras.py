"""Ranks among one camera's images: by hand, and against the plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_train.evaluation import Embeddings
from reid_train.evaluation.order import Orders
from reid_train.evaluation.ranking import match_rule
from reid_train.evaluation.statistics.cameras import CameraRanks
from reid_train.evaluation.statistics.summary import camera_pairs


def noted(dist, q_pids, g_pids, q_camids, g_camids, exclude="same-camera"):
    sides = [
        Embeddings(np.empty((len(pids), 0)), pids, camids)
        for pids, camids in ((q_pids, q_camids), (g_pids, g_camids))
    ]
    orders = Orders(match_rule(sides[0], sides[1], exclude))
    ranks = CameraRanks(orders, np.asarray(g_camids))
    half = len(dist) // 2
    chunks = [(0, dist[:half]), (half, dist[half:])]
    assert [start for start, _ in ranks.watch(iter(chunks))] == [0, half]
    return ranks.figures()


def test_by_hand():
    # Person 1, camera 0. Camera 1: wrong .1, right .2, right .4 -> AP (1/2 + 2/3) / 2.
    # Camera 2: right .3, wrong .5 -> 1. The image of camera 0 at .0 is junk; camera 3 has no match.
    dist = np.array([[0.0, 0.1, 0.2, 0.4, 0.3, 0.5, 0.05]], np.float32)
    found = noted(dist, [1], [1, 2, 1, 1, 1, 3, 2], [0], [0, 1, 1, 1, 2, 2, 3])
    assert found.camera.tolist() == [1, 2] and found.first.tolist() == [1, 0]
    assert found.ap.tolist() == pytest.approx([7 / 12, 1])
    (one, other) = camera_pairs(found, np.array([0]), np.array([1]))
    assert (one.query, one.gallery, one.queries, one.rank1) == (0, 1, 1, 0)
    assert one.mAP == pytest.approx(7 / 12) and one.intervals is None  # a single person
    assert (other.gallery, other.mAP, other.rank1) == (2, 1, 1)


def test_images_without_a_camera_are_in_no_pair():
    dist = np.array([[0.1, 0.2, 0.3]], np.float32)
    found = noted(dist, [1], [1, 1, 2], [0], [-1, 1, 1], exclude="none")
    assert found.camera.tolist() == [1] and found.ap.tolist() == [1]
    assert camera_pairs(found, np.array([-1]), np.array([1])) == []


@given(seed=st.integers(0, 10**6), levels=st.sampled_from([2, 6, 60]), exclude=st.booleans())
@settings(deadline=None, max_examples=60)
def test_equals_a_ranking_of_that_camera_alone(seed: int, levels: int, exclude: bool):
    rng = np.random.default_rng(seed)
    q_pids, g_pids = rng.integers(0, 4, 5), rng.integers(0, 4, 25)
    q_camids, g_camids = rng.integers(0, 3, 5), rng.integers(0, 3, 25)
    dist = (rng.integers(-2, levels, (5, 25)) / 8).astype(np.float32)
    rule = "same-camera" if exclude else "none"
    found = noted(dist, q_pids, g_pids, q_camids, g_camids, rule)
    expected = {}
    for q in range(5):
        for camera in range(3):
            order = [
                g for g in np.argsort(dist[q], kind="stable")
                if g_camids[g] == camera
                and not (exclude and g_pids[g] == q_pids[q] and camera == q_camids[q])
            ]  # fmt: skip
            ranks = [r for r, g in enumerate(order, 1) if g_pids[g] == q_pids[q]]
            if ranks:
                ap = np.mean([k / rank for k, rank in enumerate(ranks, 1)])
                expected[q, camera] = (pytest.approx(ap), ranks[0] - 1)
    places = zip(found.query.tolist(), found.camera.tolist(), strict=True)
    values = zip(found.ap.tolist(), found.first.tolist(), strict=True)
    assert dict(zip(places, values, strict=True)) == expected
