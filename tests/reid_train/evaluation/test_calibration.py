"""Thresholds from counted pairs: by hand, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from reid_train.evaluation import calibration
from reid_train.evaluation.calibration import (
    BINS,
    Calibration,
    Threshold,
    edges,
    exact_interval,
    quantiles,
    resampled_shares,
)
from reid_train.evaluation.embeddings import Embeddings
from reid_train.evaluation.ranking import match_rule
from reid_train.evaluation.threshold import PairStatistics


def test_exact_intervals_are_those_of_tables():
    """Clopper and Pearson's 95 % limits; 0 of n: 1 - .025^(1/n)."""
    assert exact_interval(0, 10) == pytest.approx([0, 0.30850], abs=1e-5)
    assert exact_interval(1, 10) == pytest.approx([0.00253, 0.44502], abs=1e-5)
    assert exact_interval(5, 10) == pytest.approx([0.18709, 0.81291], abs=1e-5)
    assert exact_interval(10, 10) == pytest.approx([0.69150, 1], abs=1e-5)
    assert exact_interval(0, 90)[1] == pytest.approx(1 - 0.025 ** (1 / 90))


def test_a_threshold_by_hand():
    # Bins from cosine 0.5 on: 90, 8, 2 pairs of different people; 1, 1, 8 of the same.
    place = int(np.flatnonzero(np.isclose(edges(), 0.5))[0])
    found = Calibration(first=place, same=[1, 1, 8], different=[90, 8, 2])
    half = found.threshold(0.1)
    assert half is not None and half.similarity == pytest.approx(0.501)
    assert (half.fpr, half.tpr) == (0.1, 0.9) and half.pairs == {"same": 10, "different": 100}
    assert half.fpr_interval == pytest.approx([0.04900, 0.17622], abs=1e-5)
    strict = found.threshold(0.01)
    assert strict is not None and strict.similarity == pytest.approx(0.503)
    assert (strict.fpr, strict.tpr, strict.few) == (0, 0, 300)
    assert found.threshold(0.02).few == 150 and found.threshold(0.05).few is None  # type: ignore
    assert strict.interval is None and strict.passed(0.503) and not strict.passed(0.5029)
    assert Calibration(first=0, same=[0], different=[5]).threshold(0.1) is None


def test_the_interval_of_a_threshold_is_where_its_quantiles_keep_the_rate():
    found = Calibration(
        first=1000, same=[0, 0, 0, 4], different=[60, 30, 9, 1],
        low=[1, 0.2, 0.02, 0], high=[1, 0.6, 0.2, 0.05], people=9,
    )  # fmt: skip
    threshold = found.threshold(0.1)
    assert threshold is not None and threshold.people == 9
    assert threshold.similarity == pytest.approx(0.002)
    assert threshold.interval == pytest.approx([0.002, 0.003])


def test_columns_must_fit():
    with pytest.raises(ValidationError, match="different lengths"):
        Calibration(first=0, same=[1], different=[1, 2])
    with pytest.raises(ValidationError, match="different lengths"):
        Calibration(first=BINS - 1, same=[1, 2], different=[1, 2])
    with pytest.raises(ValidationError, match="distance euclidean"):
        Calibration(first=0, same=[1], different=[1], distance="euclidean")


def test_the_bootstrap_draws_people():
    """Pairs of one person count together or not at all: with one odd person of ten, whose pairs
    alone are similar, the share of similar pairs swings; where all are alike it does not.
    """
    first, second = (part.ravel() for part in np.meshgrid(range(10), range(10)))
    others = first != second
    first, second = first[others], second[others]
    odd = np.where((first == 0) | (second == 0), 1500, 500)
    low, high = quantiles(resampled_shares(first, second, odd, 10, seed=0))  # type: ignore
    share = np.mean(odd == 1500)
    assert low[1000] == 0 and high[1000] > 1.5 * share  # undrawn in a third of the resamples
    even = np.where((first + second) % 2, 1500, 500)
    low, high = quantiles(resampled_shares(first, second, even, 10, seed=0))  # type: ignore
    assert 0.35 < low[1000] <= np.mean(even == 1500) <= high[1000] < 0.7
    assert resampled_shares(first, second, even, 2, seed=0) is None
    again = quantiles(resampled_shares(first, second, even, 10, seed=0))  # type: ignore
    np.testing.assert_array_equal(again, (low, high))


@pytest.mark.parametrize("people", [3, 40])
@pytest.mark.parametrize("together", [2**22, 120])
def test_resampled_shares_are_those_of_one_draw_at_a_time(monkeypatch, people: int, together: int):
    monkeypatch.setattr(calibration, "DRAWN", together)
    rng = np.random.default_rng(people)
    first, second = rng.integers(0, people, (2, 3000))
    bins = rng.integers(900, 930, 3000)
    for other in (second, None):
        found = resampled_shares(first, other, bins, people, seed=4)
        assert found is not None
        draws = np.random.default_rng(4)
        for row in found:
            drawn = np.bincount(draws.integers(people, size=people), minlength=people)
            weights = drawn[first] * (1 if other is None else drawn[other])
            passed = [weights[bins >= place].sum() for place in (0, 915, 1999)]
            expected = np.float32(np.array(passed) / weights.sum())
            np.testing.assert_array_equal(row[[0, 915, 1999]], expected)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_pairs_of_an_evaluation(distance: str):
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(8), 4)
    features = (rng.normal(size=(8, 5))[pids] + 0.6 * rng.normal(size=(32, 5))).astype(np.float32)
    if distance == "cosine":
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    sides = [Embeddings(features[s], pids[s], np.arange(32)[s]) for s in (pids >= 0, pids >= 2)]
    squared = np.square(sides[0].features[:, None] - sides[1].features[None]).sum(2)
    pairs = PairStatistics(
        match_rule(sides[0], sides[1], "same-camera"), sides[0].pids, sides[1].pids,
        distance=distance, farthest=20.0, about={"dataset": "here"},
    )  # fmt: skip
    list(pairs.watch(iter([(0, squared)])))
    found = pairs.calibration()
    assert found is not None and found.people == 8 and found.dataset == "here"
    near = 1 - squared / 2 if distance == "cosine" else -np.sqrt(squared)
    different = sides[0].pids[:, None] != sides[1].pids[None]
    assert found.pairs == {"same": 6 * 4 * 3, "different": int(different.sum())}
    threshold = found.threshold(0.05)
    assert threshold is not None and threshold.interval is not None and threshold.fpr is not None
    assert np.mean(near[different] >= threshold.similarity) == pytest.approx(
        threshold.fpr, abs=0.01
    )
    assert threshold.fpr <= 0.05
    assert threshold.interval[0] <= threshold.similarity <= threshold.interval[1]
    assert Calibration.model_validate(found.model_dump()) == found
    assert isinstance(threshold, Threshold)
