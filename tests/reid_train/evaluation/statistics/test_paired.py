"""Paired tests: every flip counted by hand, two-way variance by hand, false alarms."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from reid_train.evaluation.statistics.paired import between_recipes, between_runs, holm


def test_all_flips_of_three_people():
    # Totals of the 8 flips of (3, 2, -1): 4, 6, 0, 2 and their negatives; 4 of 8 reach 4.
    found = between_runs(np.array([3.0, 2, -1]), np.array([4.0, 4, 2]))
    assert found.value == 0.4 and found.p == 0.5
    assert found.interval == [-1, 1]  # 3 people can give no p below 2/8


def test_every_flip_and_the_interval_of_what_they_do_not_reject():
    rng = np.random.default_rng(0)
    apart, counts = rng.normal(0.4, 0.5, 8), rng.integers(1, 5, 8).astype(float)

    def p(at: float) -> float:
        left = apart - at * counts
        totals = [abs(np.dot(signs, left)) for signs in product((1, -1), repeat=8)]
        return float(np.mean(np.array(totals) >= abs(left.sum()) - 1e-9))

    found = between_runs(apart, counts)
    assert found.p == p(0.0)
    low, high = found.interval
    for inside, outside in ((low + 1e-6, low - 1e-6), (high - 1e-6, high + 1e-6)):
        assert p(inside) > 0.05 >= p(outside)
    # Every person one way: 2 of 2^8 flips, and 0 is outside.
    sure = between_runs(np.full(8, 0.2), np.ones(8))
    assert sure.p == 2 / 2**8 and sure.interval == pytest.approx([0.2, 0.2])


def test_equal_runs_do_not_differ():
    for people in (1, 4, 40):
        found = between_runs(np.zeros(people), np.ones(people))
        assert (found.value, found.p) == (0, 1)
        assert found.interval[0] <= 0 <= found.interval[1]


def test_flips_drawn_agree_with_all_flips():
    """The 13th person has no difference, and the flips of 12 are all counted."""
    rng = np.random.default_rng(3)
    apart = rng.normal(0.12, 0.4, 12)
    exact = between_runs(apart, np.ones(12))
    drawn = between_runs(np.append(apart, 0), np.append(np.ones(12), 1e-9))
    assert drawn.p == pytest.approx(exact.p, abs=0.03)
    assert drawn.interval == pytest.approx(exact.interval, abs=0.05)
    assert between_runs(np.append(apart, 0), np.ones(13)) == between_runs(
        np.append(apart, 0), np.ones(13)
    )


def test_recipes_over_seeds_by_hand():
    """Four people with one query each: seeds differ, people do not, and the other way round."""
    seeds = np.array([0.1, 0.2, 0.3])
    found = between_recipes(np.repeat(seeds[:, None], 4, axis=1), np.ones(4))
    # t of the three seeds alone: mean .2, error .1/sqrt(3), 2 degrees of freedom: 4.30265.
    half = 4.30265 * 0.1 / 3**0.5
    assert found.value == pytest.approx(0.2)
    assert found.interval == pytest.approx([0.2 - half, 0.2 + half], abs=1e-5)
    assert found.p == pytest.approx(0.0742, abs=1e-4)
    people = np.array([0.1, 0.2, 0.3, 0.2])
    found = between_recipes(np.repeat(people[None], 3, axis=0), np.ones(4))
    # t of the four people alone: error sqrt(.02/3/4), 3 degrees of freedom: 3.18245.
    half = 3.18245 * (0.02 / 12) ** 0.5
    assert found.interval == pytest.approx([0.2 - half, 0.2 + half], abs=1e-5)
    once = between_recipes(people[None], np.ones(4))
    assert once == between_runs(people, np.ones(4))


def test_holm_by_hand():
    # .01 x 4, .02 x 3, .03 x 2, .04 x 1, none below the one before.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1] and holm([]) == []


def test_false_alarms_between_equally_good_runs():
    """300 pairs of equal models on the same 100 people; 2,000 in ``benchmarks/intervals.py``."""
    rng = np.random.default_rng(5)
    counts = rng.integers(1, 8, 100)
    people = np.repeat(np.arange(100), counts)
    alarms, naive = [], []
    for _ in range(300):
        shared = rng.normal(0, 0.2, 100)
        runs = [
            0.7
            + shared[people]
            + rng.normal(0, 0.15, 100)[people]
            + rng.normal(0, 0.1, len(people))
            for _ in range(2)
        ]
        apart = np.subtract(*np.clip(runs, 0, 1))
        sums = np.bincount(people, weights=apart)
        alarms.append(between_runs(sums, counts.astype(float), flips=399).p <= 0.05)
        naive.append(abs(apart.mean()) > 1.96 * apart.std() / len(apart) ** 0.5)
    assert 0.02 <= np.mean(alarms) <= 0.085
    assert np.mean(naive) > 0.15  # as if queries were independent
