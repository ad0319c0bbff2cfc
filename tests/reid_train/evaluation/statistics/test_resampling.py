"""Bootstrap over people: the vectorised sums against plain loops, and what intervals cover."""

from __future__ import annotations

import numpy as np
import pytest

from reid_train.evaluation.calibration import exact_interval
from reid_train.evaluation.statistics.resampling import (
    FEW,
    Sums,
    generator,
    intervals,
    rising,
    trials_of,
    weights,
)


def test_sums_by_hand():
    values = np.array([[1.0, 0], [0.5, np.nan], [0, 1], [np.nan, np.nan]])
    sums = Sums.of(values, np.array([7, 7, 3, 9]))
    assert len(sums) == 2  # person 9 has no query that counts
    assert sums.totals.tolist() == [[0, 1], [1.5, 0]]
    assert sums.counts.tolist() == [[1, 1], [2, 1]]
    assert sums.ratio.tolist() == [0.5, 0.5]
    weighted = Sums.of(values, np.array([7, 7, 3, 9]), np.array([2, 1, 1, 1.0]))
    assert weighted.ratio[0] == pytest.approx(2.5 / 4) and weighted.least.tolist() == [1, 1]


def test_every_draw_is_of_as_many_as_there_are():
    drawn = np.concatenate(list(weights(7, name="a", draws=50)))
    assert drawn.shape == (50, 7) and (drawn.sum(axis=1) == 7).all()
    again = np.concatenate(list(weights(7, name="a", draws=50)))
    other = np.concatenate(list(weights(7, name="b", draws=50)))
    np.testing.assert_array_equal(drawn, again)
    assert (drawn != other).any()


def looped(values: np.ndarray, people: np.ndarray, draws: int) -> tuple[float, float]:
    """Bootstrap-t of the mean over queries, written out: every draw a list of people."""
    names = np.unique(people)
    own = {name: values[people == name] for name in names}

    def error(drawn: list[np.ndarray], mean: float) -> float:
        size = sum(len(found) for found in drawn)
        squares = sum((found.sum() - mean * len(found)) ** 2 for found in drawn)
        return (squares * len(drawn) / (len(drawn) - 1)) ** 0.5 / size

    mean = float(values.mean())
    here = error(list(own.values()), mean)
    rng, found = generator("t"), []
    for _ in range(draws):
        drawn = [own[names[place]] for place in rng.integers(len(names), size=len(names))]
        value = float(np.concatenate(drawn).mean())
        found.append((value - mean) / max(error(drawn, value), 1 / len(values)))
    low, high = np.quantile(found, [0.975, 0.025])
    return max(0, mean - low * here), min(1, mean - high * here)


def test_equals_plain_loops():
    rng = np.random.default_rng(0)
    people = rng.integers(0, 15, 50)
    values = rng.beta(2, 1, 50)
    found = intervals(Sums.of(values[:, None], people), name="t", draws=300)[:, 0]
    assert found == pytest.approx(looped(values, people, 300), abs=1e-12)


def test_the_same_queries_twice_change_nothing_over_people_but_over_queries():
    rng = np.random.default_rng(1)
    values, people = rng.beta(3, 1, (60, 1)), np.arange(60) // 2
    twice = np.repeat(values, 5, axis=0)
    once = intervals(Sums.of(values, people), name="t")
    again = intervals(Sums.of(twice, np.repeat(people, 5)), name="t")
    assert again == pytest.approx(once, abs=1e-3)
    alone = intervals(Sums.of(twice, np.arange(300)), name="t")
    assert alone[1] - alone[0] < 0.6 * (once[1] - once[0])


def test_few_people_who_err_get_the_exact_interval():
    """All right, or fewer than FEW that are not: nothing to draw."""
    perfect = np.ones((40, 1))
    found = intervals(Sums.of(perfect, np.arange(40) // 2), name="t")[:, 0]
    assert found == pytest.approx(exact_interval(20, 20))
    wrong = perfect.copy()
    wrong[: FEW - 1] = 0
    alone = intervals(Sums.of(wrong, np.arange(40)), name="t")[:, 0]
    # One query each: nearly the binomial interval of 31 of 40 (40 - 1 degrees of freedom both).
    assert alone == pytest.approx(exact_interval(31, 40), abs=0.01)
    # Of people with 4 equal queries each every person is a trial.
    error = (0.25 * 0.75 / 399) ** 0.5
    assert trials_of(0.25, error, 400, 1600) == pytest.approx(399, rel=0.01)
    assert trials_of(1.0, 0.0, 5, 50) == 5


def test_nobody_to_draw():
    ends = intervals(Sums.of(np.ones((5, 1)), np.zeros(5)), name="t")
    assert np.isnan(ends).all()
    missing = np.column_stack([np.linspace(0, 1, 30), np.full(30, np.nan)])
    ends = intervals(Sums.of(missing, np.arange(30)), name="t")
    assert not np.isnan(ends[:, 0]).any() and np.isnan(ends[:, 1]).all()


def test_memory_does_not_grow_with_the_draws():
    import tracemalloc

    sums = Sums.of(np.random.default_rng(0).random((20_000, 5)), np.arange(20_000))
    tracemalloc.start()
    intervals(sums, name="t", draws=200)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert peak < 60  # all draws at once are 31 MiB of counts, and three times that


def test_intervals_over_people_cover():
    """300 draws of 100 people whose queries are alike: over people 95 %, over queries far less.
    (``benchmarks/intervals.py`` has 2,000 of more kinds.)
    """
    rng = np.random.default_rng(2)
    # A person's queries are 1 to 7 draws of a beta around the person's own mean, itself beta(6, 2).
    true, over_people, over_queries = 0.75, [], []
    for _ in range(300):
        own = rng.beta(6, 2, 100)
        people = np.repeat(np.arange(100), rng.integers(1, 8, 100))
        values = rng.beta(10 * own[people], 10 * (1 - own[people]))[:, None]
        for found, units in ((over_people, people), (over_queries, np.arange(len(people)))):
            low, high = intervals(Sums.of(values, units), name="t", draws=200)[:, 0]
            found.append(low <= true <= high)
    assert 0.92 <= np.mean(over_people) <= 0.98
    assert np.mean(over_queries) < 0.88


def test_a_curve_that_never_falls_is_no_less_sure_where_all_are_right():
    ends = np.array([[0.5, 0.8, 0.94, 0.89, 0.89], [0.7, 0.9, 0.99, 1.0, 1.0]])
    assert rising(ends).tolist() == [[0.5, 0.8, 0.94, 0.94, 0.94], [0.7, 0.9, 0.99, 1.0, 1.0]]
    ends[1, 1] = 0.6  # nor is it below before a place where it is below
    assert rising(ends)[1].tolist() == [0.6, 0.6, 0.99, 1.0, 1.0]
