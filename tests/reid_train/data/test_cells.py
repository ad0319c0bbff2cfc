"""Label maps on coarser grids: by hand, against a slow reading of the rule, and mirrored."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labels.sets import IGNORE, LIP
from reid_train.data.cells import CellGrid, Cells, pool, sample, to_cells

PARTS = len(LIP.names)


def _maps(seed, shape, *, parts=PARTS, ignored=0.2):
    """Labels that often tie, some ignored, and confidences as the cache stores them."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, parts, shape).astype(np.uint8)
    labels[generator.random(shape) < ignored] = IGNORE
    confidence = (generator.integers(0, 16, shape) / 15).astype(np.float32)
    return labels, confidence


def _mirrored(labels):
    """What a mirrored image shows: left and right exchanged, ignored pixels moved along."""
    order = np.full(256, IGNORE)
    order[:PARTS] = LIP.flip_order
    return order[labels[..., ::-1]].astype(labels.dtype)


def _slow(labels, confidence, rows, columns):
    """The rule read aloud: pixel ranges per cell, one cell at a time, with whole fractions."""
    out = np.zeros((len(labels), len(rows), len(columns)), np.int64)
    sure = np.zeros(out.shape)
    for n, i, j in np.ndindex(*out.shape):
        window = slice(*rows[i]), slice(*columns[j])
        votes = defaultdict(list)
        for label, value in zip(
            labels[n][window].ravel().tolist(), confidence[n][window].ravel().tolist(), strict=True
        ):
            votes[label].append(round(value * 15))
        best = max(votes, key=lambda x: (len(votes[x]), sum(votes[x]), x == IGNORE, -x))
        out[n, i, j], sure[n, i, j] = best, sum(votes[best]) / len(votes[best]) / 15
    return out, sure


def _check(labels, confidence, grid, rows, columns):
    cells = to_cells(torch.from_numpy(labels), torch.from_numpy(confidence), grid, parts=PARTS)
    expected, sure = _slow(labels, confidence, rows, columns)
    np.testing.assert_array_equal(cells.labels.numpy(), expected)
    np.testing.assert_allclose(cells.confidence.numpy(), sure, atol=1e-7)
    assert cells.labels.dtype == torch.int64 and cells.confidence.dtype == torch.float32


def test_majority_by_hand():
    labels = torch.tensor(
        [
            [
                [5, 5, 1, 2, 7, 255],
                [5, 9, 2, 1, 7, 255],
                [255, 255, 0, 3, 4, 4],
                [255, 6, 0, 3, 4, 4],
            ]
        ],
        dtype=torch.uint8,
    )
    confidence = torch.zeros(1, 4, 6)
    confidence[0, :2] = torch.tensor([[0.9, 0.6, 0.5, 0.4, 0.3, 0], [0.3, 1.0, 0.4, 0.2, 0.5, 0]])
    confidence[0, 2:] = torch.tensor([[0, 0, 0.2, 0.3, 1, 1], [0, 1.0, 0.2, 0.2, 1, 0.5]])
    cells = to_cells(labels, confidence, CellGrid.even((4, 6), (2, 3)), parts=20)
    # three 5s; 1 and 2 tie, 2 is surer (0.8 to 0.7); 7 ties with ignored pixels and is surer;
    # mostly ignored; 0 and 3 tie, 3 is surer; all 4
    assert cells.labels.tolist() == [[[5, 2, 7], [IGNORE, 3, 4]]]
    torch.testing.assert_close(
        cells.confidence, torch.tensor([[[0.6, 0.4, 0.4], [0.0, 0.25, 0.875]]])
    )
    assert cells.counted.tolist() == [[[True, True, True], [False, True, True]]]


def test_equal_sums_of_cached_confidence_are_equal():
    """5/15 three times is as sure as 15/15 once and 0 twice, though 5/15 has no exact float."""
    steps = torch.tensor([5, 5, 5, 15, 0, 0, 14, 0, 0, 4, 7, 3])
    labels = torch.tensor([9, 9, 9, 4, 4, 4, 6, 6, 6, 2, 2, 2], dtype=torch.uint8)
    confidence = (steps / 15).float().view(1, 2, 6)
    cells = to_cells(labels.view(1, 2, 6), confidence, CellGrid.even((2, 6), (2, 1)), parts=20)
    assert cells.labels.flatten().tolist() == [4, 2]


def test_full_ties_go_to_ignored_then_to_the_lower_label():
    labels = torch.tensor([[[8, 3, 255, 3]]], dtype=torch.uint8)
    cells = to_cells(labels, torch.zeros(1, 1, 4), CellGrid.even((1, 4), (1, 2)), parts=20)
    assert cells.labels.tolist() == [[[3, IGNORE]]]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    grid=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    few=st.booleans(),
)
def test_even_grids_equal_the_slow_reading(seed, size, grid, few):
    labels, confidence = _maps(seed, (2, *size), parts=3 if few else PARTS)
    rows, columns = (
        [(int(np.floor(i * n / k)), int(np.ceil((i + 1) * n / k - 1e-9))) for i in range(k)]
        for n, k in zip(size, grid, strict=True)
    )
    _check(labels, confidence, CellGrid.even(size, grid), rows, columns)


@pytest.mark.parametrize(("stride", "shape"), [(16, (16, 8)), (12, (21, 10))])
def test_tokens_see_their_patches(stride, shape):
    labels, confidence = _maps(3, (2, 256, 128), parts=4)
    grid = CellGrid.tokens((256, 128), stride=stride)
    assert grid.shape == shape
    rows, columns = ([(stride * i, stride * i + 16) for i in range(k)] for k in shape)
    _check(labels, confidence, grid, rows, columns)


def test_nearest_takes_the_pixel_of_the_centre():
    labels = (torch.arange(256 * 128) % 19).to(torch.uint8).view(1, 256, 128)
    confidence = torch.rand(1, 256, 128, generator=torch.Generator().manual_seed(0))
    cells = to_cells(
        labels, confidence, CellGrid.even((256, 128), (32, 16)), parts=20, rule="nearest"
    )
    assert torch.equal(cells.labels, labels[:, 4::8, 4::8].long())
    assert torch.equal(cells.confidence, confidence[:, 4::8, 4::8])
    # 5 rows over 8: centres 0.8, 2.4, 4, 5.6, 7.2
    small = to_cells(labels[:, :8, :1], confidence[:, :8, :1], CellGrid.even((8, 1), (5, 1)),
                     parts=20, rule="nearest")  # fmt: skip
    assert torch.equal(small.labels, labels[:, [0, 2, 4, 5, 7], :1].long())
    olp = CellGrid.tokens((256, 128), stride=12)
    tokens = to_cells(labels, confidence, olp, parts=20, rule="nearest")
    assert torch.equal(tokens.labels, labels[:, 8:249:12, 8:117:12].long())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    grid=st.sampled_from([(4, 4), (3, 5), (5, 3), (8, 8), (12, 16)]),
)
def test_mirrored_maps_give_the_mirrored_cells(seed, grid):
    generator = np.random.default_rng(seed)
    labels, _ = _maps(seed, (3, 8, 8), ignored=0.1)
    confidence = generator.random(labels.shape, np.float32)  # no full ties, they are not symmetric
    confidence[labels == IGNORE] = 0
    mirrored = _mirrored(labels)
    cell_grid = CellGrid.even((8, 8), grid)
    cells, flipped = (
        to_cells(torch.from_numpy(a.copy()), torch.from_numpy(b.copy()), cell_grid, parts=PARTS)
        for a, b in ((labels, confidence), (mirrored, confidence[:, :, ::-1]))
    )
    expected = _mirrored(cells.labels.numpy())
    np.testing.assert_array_equal(flipped.labels.numpy(), expected)
    assert torch.equal(flipped.confidence, cells.confidence.flip(2))


def test_labels_outside_the_set_are_an_error():
    labels = torch.full((1, 2, 2), 20, dtype=torch.uint8)
    grid = CellGrid.even((2, 2), (1, 1))
    with pytest.raises(RuntimeError, match="out of bounds"):
        to_cells(labels, torch.ones(1, 2, 2), grid, parts=20)
    assert to_cells(labels, torch.ones(1, 2, 2), grid, parts=21).labels.item() == 20


def test_wrong_rules_and_grids_are_named():
    with pytest.raises(ValueError, match="bilinear"):
        to_cells(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), CellGrid.even((2, 2), (1, 1)),
                 parts=3, rule="bilinear")  # fmt: skip
    with pytest.raises(ValueError, match="no cell"):
        CellGrid.tokens((256, 8))
    with pytest.raises(ValueError, match="65536 pixels"):
        CellGrid.even((256, 256), (1, 1))


def _cells(labels):
    labels = torch.tensor(labels)
    return Cells(labels, torch.ones(labels.shape))


def test_pool_and_weights_by_hand():
    cells = _cells([[[0, 2], [2, IGNORE]], [[1, 1], [1, 1]], [[IGNORE] * 2] * 2])
    features = torch.tensor([[[[1.0, 2], [4, 100]]], [[[1, 2], [3, 6]]], [[[9, 9], [9, 9]]]])
    features = torch.cat([features, -features], dim=1).requires_grad_()
    means, counts = pool(features, cells, 3)
    assert counts.tolist() == [[1, 0, 2], [0, 4, 0], [0, 0, 0]]
    assert means[..., 0].tolist() == [[1, 0, 3], [0, 3, 0], [0, 0, 0]]
    assert torch.equal(means[..., 1], -means[..., 0])
    means[..., 0].sum().backward()
    assert features.grad is not None
    assert features.grad[:, 0].tolist() == [
        [[1, 0.5], [0.5, 0]], [[0.25, 0.25], [0.25, 0.25]], [[0, 0], [0, 0]],
    ]  # fmt: skip
    assert not features.grad[:, 1].any()


def test_pool_is_float32_under_autocast():
    features = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    cells = _cells((torch.arange(32).view(2, 4, 4) % 3).tolist())
    with torch.autocast("cpu", torch.bfloat16):
        inside, _ = pool(features, cells, 3)
    assert torch.equal(inside, pool(features, cells, 3)[0])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), pixels=st.integers(1, 14))
def test_sampled_rows_are_distinct_cells_of_the_part(seed, pixels):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 4, (3, 4, 3), generator=generator)
    cells = Cells(labels.where(labels >= 0, IGNORE), torch.ones(3, 4, 3))
    place = torch.arange(12.0).view(1, 1, 4, 3).expand(3, -1, -1, -1)
    rows, weights = sample(place, cells, 4, pixels=pixels, generator=generator)
    keep = min(pixels, 12)
    assert rows.shape == (3, 4, keep, 1) and weights.shape == (3, 4, keep)
    _, counts = pool(place, cells, 4)
    torch.testing.assert_close(weights.sum(2), counts)
    for n, p in np.ndindex(3, 4):
        taken = rows[n, p, weights[n, p] > 0, 0].long()
        assert len(taken) == min(pixels, int(counts[n, p])) == len(set(taken.tolist()))
        assert (labels[n].flatten()[taken] == p).all()


def test_sampling_follows_its_generator():
    features = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    cells = _cells((torch.arange(72).view(2, 6, 6) % 2).tolist())

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return sample(features, cells, 2, pixels=3, generator=generator)[0]

    assert torch.equal(drawn(7), drawn(7))
    assert not torch.equal(drawn(7), drawn(8))
    with pytest.raises(ValueError, match="pixels is 0"):
        sample(features, cells, 2, pixels=0, generator=torch.Generator())
    with pytest.raises(ValueError, match="expected N,D,h,w over N,h,w"):
        pool(features[:, :, :5], cells, 2)
