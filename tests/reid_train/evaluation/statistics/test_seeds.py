"""The paired t test over seeds, beside values computed by hand and by scipy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct, ttest_1samp
from scipy.stats import t as student

from reid_train.evaluation.statistics.differences import Contender, differences, lines
from reid_train.evaluation.statistics.seeds import over_seeds
from tests.reid_train.evaluation.statistics.test_summary import pretended


def test_by_hand():
    # mean .02, deviations -.01, 0, .01: sd .01, standard error .01 / sqrt 3; t .975 of 2 is 4.3027
    found = over_seeds(np.array([0.01, 0.02, 0.03]))
    assert found is not None and found.value == pytest.approx(0.02)
    error = 0.01 / 3**0.5
    assert found.interval == pytest.approx([0.02 - 4.302653 * error, 0.02 + 4.302653 * error])
    assert found.sees == pytest.approx((4.302653 + 1.060660) * error, rel=1e-5)
    assert found.p == pytest.approx(0.0741799)  # t = 3.4641 with 2 degrees


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=12).filter(lambda v: np.ptp(v) > 1e-4))
def test_as_scipy_has_it(values: list[float]):
    found, theirs = over_seeds(np.array(values)), cast("Any", ttest_1samp(values, 0))
    assert found is not None and found.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    interval = theirs.confidence_interval(0.95)
    assert found.interval == pytest.approx(np.clip([interval.low, interval.high], -1, 1).tolist())


@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_what_it_sees_it_finds_four_times_in_five(seeds: int):
    """The exact power, by the noncentral t, of a difference as large as ``sees``."""
    values = np.linspace(-1, 1, seeds) / 100
    found = over_seeds(values)
    assert found is not None
    shift = found.sees / (values.std(ddof=1) / seeds**0.5)
    assert nct.sf(student.ppf(0.975, seeds - 1), seeds - 1, shift) == pytest.approx(0.8, abs=0.02)


def test_one_seed_says_nothing_and_equal_ones_everything():
    assert over_seeds(np.array([0.1])) is None
    same, none = over_seeds(np.full(3, 0.1)), over_seeds(np.zeros(3))
    assert same is not None and none is not None
    assert (same.p, same.interval, same.sees, none.p) == (0.0, pytest.approx([0.1, 0.1]), 0.0, 1.0)


def test_of_recipes_holm_over_the_pairs(tmp_path: Path):
    pids, ap = np.repeat(np.arange(20), 2), np.full(40, 0.5)
    gains = {"base": [0, 0, 0], "up": [0.02, 0.03, 0.01], "same": [0.01, -0.01, 0.0]}
    members = [
        Contender(
            name,
            {
                seed: pretended(tmp_path / f"{name}{seed}", ap + gain, pids)
                for seed, gain in enumerate(by_seed)
            },
        )
        for name, by_seed in gains.items()
    ]
    rows = differences(members, {frozenset(("base", "up")), frozenset(("base", "same"))})
    found = {row["better"]: row["over_seeds"] for row in rows if row["measure"] == "mAP"}
    up, same = (over_seeds(np.array(gains[name])) for name in ("up", "same"))
    assert up is not None and same is not None
    assert found["up"]["p"] == pytest.approx(up.p, abs=1e-6)
    assert found["up"]["p_corrected"] == pytest.approx(2 * up.p, abs=1e-6)
    told = "\n".join(lines(rows))
    assert "the same on d over 3 seeds alone, these people (paired t, p after Holm for 2;" in told
    assert f"up over base: mAP +2.0 [-0.5, 4.5], p .148, from {100 * up.sees:.1f} on" in told
    assert json.dumps(rows)
    pair = [Contender(member.name, dict(list(member.folders.items())[:2])) for member in members]
    assert "seeds alone" not in "\n".join(lines(differences(pair)))
