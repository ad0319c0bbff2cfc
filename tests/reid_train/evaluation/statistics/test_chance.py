"""A random ranking's expected AP against every order there is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from pipeline.datasets.manifest import Protocol
from reid_train.evaluation import Embeddings, evaluate_distances
from reid_train.evaluation.protocols import COURSE
from reid_train.evaluation.ranking import match_rule
from reid_train.evaluation.statistics.chance import chance_ap, chance_map, chance_top


def precision(ranks: tuple[int, ...]) -> float:
    return float(np.mean([k / rank for k, rank in enumerate(ranks, 1)])) if ranks else 0.0


@pytest.mark.parametrize("images", range(1, 7))
def test_every_order(images: int):
    for right in range(images + 1):
        orders = list(combinations(range(1, images + 1), right))
        expected = np.mean([precision(order) for order in orders])
        assert chance_ap(np.array([right]), np.array([images]))[0] == pytest.approx(expected)
        for top in (1, 2, 3, 10):
            seen = [tuple(rank for rank in order if rank <= top) for order in orders]
            expected = np.mean([precision(order) for order in seen])
            found = chance_top(np.array([right]), np.array([images]), top)[0]
            assert found == pytest.approx(expected), (right, top)


def test_by_hand_and_at_random():
    # One right of three: (1 + 1/2 + 1/3) / 3.
    assert chance_ap(np.array([1]), np.array([3]))[0] == pytest.approx(11 / 18)
    rng = np.random.default_rng(0)
    q_pids, g_pids = rng.integers(0, 10, 400), rng.integers(0, 10, 90)
    cameras = rng.integers(0, 3, 400), rng.integers(0, 3, 90)
    found = evaluate_distances(rng.random((400, 90)), q_pids, g_pids, *cameras)
    sides = [
        Embeddings(np.empty((len(pids), 0)), pids, camids)
        for pids, camids in zip((q_pids, g_pids), cameras, strict=True)
    ]
    matches = match_rule(sides[0], sides[1], "same-camera")
    chance = chance_map(matches, found.valid, 90, Protocol(name="standard"))
    assert found.mAP == pytest.approx(chance, abs=0.01)
    assert chance_map(match_rule(sides[0], sides[1], "none"), found.valid, 90, COURSE) > chance
