"""Losses against values worked out by hand and against the recorded ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reid_train.losses import LOSSES


def _run(loss, array, labels):
    x = torch.tensor(array, requires_grad=True)
    value = loss(x, torch.as_tensor(labels))
    value.backward()
    assert x.grad is not None
    return value.item(), x.grad.numpy()


@pytest.mark.parametrize(
    ("options", "name"),
    [({"margin": 0.3}, "triplet_margin03"), ({"margin": None}, "triplet_soft")],
)
def test_triplet_equals_the_recorded(options, name, golden, fill):
    expected = golden("clip_losses.npz")
    feature = fill.fill("loss.triplet", (8, 64))
    value, grad = _run(LOSSES["triplet"](**options), feature, expected["triplet_labels"])
    assert value == pytest.approx(float(expected[name]), rel=1e-5)
    if name == "triplet_margin03":
        np.testing.assert_allclose(grad, expected["triplet_grad"], rtol=1e-4, atol=1e-6)


def test_cross_entropy_equals_the_recorded(golden, fill):
    expected = golden("clip_losses.npz")
    logits, labels = 8 * fill.fill("loss.logits", (8, 16)), expected["supcon_labels"]
    value, grad = _run(LOSSES["cross-entropy"](label_smoothing=0.1), logits, labels)
    assert value == pytest.approx(float(expected["smooth_ce"]), rel=1e-5)
    np.testing.assert_allclose(grad, expected["smooth_ce_grad"], rtol=1e-4, atol=1e-6)
    value, _ = _run(LOSSES["cross-entropy"](), logits, labels)
    assert value == pytest.approx(float(expected["plain_ce"]), rel=1e-5)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_triplet_equals_the_other_recorded_implementation(metric, golden, fill):
    expected = golden("simplereid_losses.npz")
    features = 3 * fill.fill("loss.features", (16, 32))
    name = f"pair_triplet_{metric}_m0.3"
    value, grad = _run(
        LOSSES["triplet"](margin=0.3, metric=metric), features, np.repeat(np.arange(4), 4)
    )
    assert value == pytest.approx(float(expected[name]), rel=1e-4)
    np.testing.assert_allclose(grad, expected[f"{name}.grad"], rtol=1e-3, atol=1e-6)


def test_smoothing_by_hand():
    # two classes, logits 0 and log 3: p = 1/4, 3/4; target 0.95, 0.05 for label 0
    value, grad = _run(LOSSES["cross-entropy"](label_smoothing=0.1), [[0.0, math.log(3.0)]], [0])
    assert value == pytest.approx(-0.95 * math.log(0.25) - 0.05 * math.log(0.75), rel=1e-6)
    np.testing.assert_allclose(grad, [[0.25 - 0.95, 0.75 - 0.05]], rtol=1e-6)


def test_triplet_by_hand_with_unequal_counts():
    # a at 0 and 3, b at 5, 9 and 10 (on a line): hardest positive, hardest negative
    # 0: 3 - 5; 3: 3 - 2 ; 5: 5 - 2; 9: 4 - 6; 10: 5 - 7; plus margin 0.5
    points = [[0.0, 0.0], [3.0, 0.0], [5.0, 0.0], [9.0, 0.0], [10.0, 0.0]]
    value, grad = _run(LOSSES["triplet"](margin=0.5), points, [0, 0, 1, 1, 1])
    assert value == pytest.approx((1.5 + 3.5) / 5, rel=1e-5)
    # d(1.5): pulls 3 from 0 (+1 on x1, -1 on x0), pushes 3 from 5 (+1 on x1, -1 on x2)
    # d(3.5): pulls 10 from 5 (+1 on x4, -1 on x2), pushes 5 from 3 (-1 on x2, +1 on x1)
    np.testing.assert_allclose(grad[:, 0], np.array([-1, 3, -3, 0, 1]) / 5, atol=1e-6)


@pytest.mark.parametrize("margin", [0.3, None])
def test_triplet_without_negatives_is_zero_with_finite_gradient(margin):
    value, grad = _run(LOSSES["triplet"](margin=margin), [[1.0, 2.0], [1.0, 2.0]], [4, 4])
    assert value == 0.0
    assert np.isfinite(grad).all() and not grad.any()


def test_triplet_is_computed_in_float32_under_autocast():
    features = 100 + torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    labels, loss = torch.arange(8) % 4, LOSSES["triplet"](margin=0.3)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(features, labels)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(features, labels))


def test_unknown_metric_is_named():
    with pytest.raises(ValueError, match="manhattan"):
        LOSSES["triplet"](metric="manhattan")
