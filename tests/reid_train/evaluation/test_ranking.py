"""The k nearest images against a full stable sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_train.evaluation import Embeddings, rank
from reid_train.evaluation.ranking import nearest_first
from tests.reid_train.evaluation.reference import plain_metrics


@given(
    row=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    k=st.integers(1, 30),
    data=st.data(),
)
@settings(deadline=None, max_examples=200)
def test_nearest_first_is_a_stable_sort(row, k, data):
    hidden = sorted(data.draw(st.sets(st.integers(0, len(row) - 1), max_size=len(row))))
    distances = np.array(row, np.float32)
    expected = [g for g in np.argsort(distances, kind="stable") if g not in hidden][:k]
    assert nearest_first(distances, k, np.array(hidden, np.int64)).tolist() == expected
    if not hidden:
        assert nearest_first(distances, k).tolist() == expected


@pytest.mark.parametrize("exclude", ("same-camera", "none"))
def test_rank_lists_what_metrics_see(exclude):
    rng = np.random.default_rng(3)
    sides = [
        Embeddings(
            rng.integers(-2, 3, (n, 6)).astype(np.float32),
            rng.integers(0, 4, n),
            rng.integers(0, 3, n),
        )
        for n in (7, 25)
    ]
    query, gallery = sides
    assert query.camids is not None and gallery.camids is not None
    cameras = query.camids, gallery.camids
    dist = ((query.features[:, None] - gallery.features[None]) ** 2).sum(-1)

    def leave_out(q, g):
        same = query.pids[q] == gallery.pids[g] and cameras[0][q] == cameras[1][g]
        return exclude == "same-camera" and same

    plain = plain_metrics(dist, query.pids, gallery.pids, leave_out, 5)
    found = rank(query, gallery, k=30, normalise=False, exclude=exclude)
    assert found.indices.shape == (7, 25)
    for q, order in enumerate(plain.order):
        assert found.indices[q, : len(order)].tolist() == order
        np.testing.assert_array_equal(found.distances[q, : len(order)], dist[q, order])
        assert (found.indices[q, len(order) :] == -1).all()
        assert np.isinf(found.distances[q, len(order) :]).all()
