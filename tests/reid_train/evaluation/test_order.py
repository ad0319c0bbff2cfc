"""The order of a few queries' galleries against full stable sorts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_train.evaluation.exclusion import Pairs
from reid_train.evaluation.order import Order, nearest, ordered_bits, piece_rows, pieces

TYPES = ("float16", "float32", "float64", "int64")


def pairs(chosen: np.ndarray) -> Pairs:
    """Of a table (n, G) of bool."""
    query, gallery = np.nonzero(chosen)
    return Pairs(query, gallery, np.searchsorted(query, np.arange(len(chosen) + 1)))


@given(
    seed=st.integers(0, 10**6),
    levels=st.sampled_from([2, 6, 1000]),
    kind=st.sampled_from(TYPES),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 60)),
)
@settings(deadline=None, max_examples=100)
def test_ranks_are_those_of_a_stable_sort(seed, levels, kind, shape):
    rng = np.random.default_rng(seed)
    piece = rng.integers(-levels, levels, shape).astype(kind)
    draw = rng.random(shape)
    right, hidden = draw < 0.2, draw > 0.8
    least = min(shape[1], seed % 70)
    order = Order.of(piece, pairs(right), pairs(hidden), least=least)
    query, found = order.ranks()
    expected = []
    for row, good, out in zip(piece, right, hidden, strict=True):
        seen = [g for g in np.argsort(row, kind="stable") if not out[g]]
        expected += [place for place, g in enumerate(seen) if good[g]]
    assert found.tolist() == expected
    assert query.tolist() == np.nonzero(right)[0].tolist()
    near = np.argsort(piece, axis=1, kind="stable")[:, :least]
    assert order.first(least).tolist() == near.tolist()
    part = slice(*order.bounds[:2])
    assert order.hidden[part].tolist() == hidden[0][order.gallery[part]].tolist()


def test_infinite_distances_have_ranks():
    row = np.array([[np.inf, 0, np.inf, 1, np.inf]])
    right, hidden = (pairs(np.isin(np.arange(5), chosen)[None]) for chosen in ([2, 3], [0]))
    assert Order.of(row, right, hidden).ranks()[1].tolist() == [1, 2]


def test_what_is_no_number_is_last():
    row = np.array([[np.nan, 3, 1, np.nan, 2, np.inf]], np.float32)
    for kind in (np.float32, np.float64):
        order = Order.of(row.astype(kind), pairs(row == 2), pairs(row == 1))
        assert order.gallery.tolist() == [2, 4, 0, 3] and order.ranks()[1].tolist() == [0]
    assert nearest(row, 6).tolist() == [[2, 4, 1, 5, 0, 3]]
    assert ordered_bits(-row)[0, 0] == 2**31 - 1


@pytest.mark.parametrize("k", (1, 20, 75, 3000))
@pytest.mark.parametrize("levels", (3, 10**6))
def test_the_nearest_are_those_of_a_stable_sort(k: int, levels: int):
    """Also where the nearest lie at places that are not looked at to guess how far they reach."""
    rng = np.random.default_rng(k)
    piece = rng.integers(0, levels, (20, 6000)).astype(np.float32)
    piece[3] = np.sort(piece[3])
    piece[4, ::16], piece[5, 1::16] = -1, -1
    piece[6, ::16] = levels + 1
    expected = np.argsort(piece, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(nearest(piece, k), expected)


def test_bits_are_ordered_as_their_numbers():
    values = np.array([-np.inf, -2, -1e-9, -0.0, 0.0, 1e-30, 1, 7, np.inf], np.float32)
    bits = ordered_bits(values)
    assert bits[3] == bits[4] and (np.diff(np.delete(bits, 3).astype(np.float64)) > 0).all()
    assert bits.dtype == np.int32


@pytest.mark.parametrize("gallery", (1, 1000, 300_000))
def test_pieces_cover_a_chunk_in_its_order(gallery: int):
    chunk = np.broadcast_to(np.arange(5)[:, None], (5, gallery))
    found = list(pieces(7, chunk))
    assert [start for start, _ in found] == list(range(7, 12, piece_rows(gallery)))
    assert np.concatenate([part[:, 0] for _, part in found]).tolist() == list(range(5))
