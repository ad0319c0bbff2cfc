"""Pair losses against hand values and the recorded ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_train.losses import LOSSES

PAIR_LOSSES = ["pair-contrastive", "pair-cosface", "pair-circle"]
GOLDEN = {
    "pair-contrastive": "pair_contrastive_s16",
    "pair-cosface": "pair_cosface_s16_m0.1",
    "pair-circle": "pair_circle_s48_m0.35",
}


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_equals_the_recorded(name, golden):
    recorded = golden("simplereid_losses.npz")
    features = torch.tensor(recorded["features"], requires_grad=True)
    loss = LOSSES[name]()(features, torch.as_tensor(recorded["labels"]))
    (grad,) = torch.autograd.grad(loss, features)
    assert loss.item() == pytest.approx(float(recorded[GOLDEN[name]]), rel=1e-5)
    np.testing.assert_allclose(grad, recorded[f"{GOLDEN[name]}.grad"], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_triplet_of_both_sources_is_one(metric, golden):
    """Simple-ReID's cosine distance is -s, ours 1 - s."""
    recorded = golden("simplereid_losses.npz")
    features = torch.tensor(recorded["features"], requires_grad=True)
    loss = LOSSES["triplet"](margin=0.3, metric=metric)(
        features, torch.as_tensor(recorded["labels"])
    )
    (grad,) = torch.autograd.grad(loss, features)
    name = f"pair_triplet_{metric}_m0.3"
    assert loss.item() == pytest.approx(float(recorded[name]), rel=1e-5)
    np.testing.assert_allclose(grad, recorded[f"{name}.grad"], rtol=1e-5, atol=1e-6)


# Directions a and b of one identity 60 degrees apart, c of another at 90 from a and 30 from b.
ANGLES = torch.tensor([0.0, math.pi / 3, math.pi / 2])
FEATURES = torch.stack([ANGLES.cos(), ANGLES.sin()], 1) * torch.tensor([[1.0], [3.0], [0.2]])
LABELS = torch.tensor([5, 5, 2])
AB, AC, BC = 0.5, 0.0, math.sqrt(3) / 2


def _log1p_exp(x: float) -> float:
    return math.log(1 + math.exp(x))


def test_contrastive_by_hand():
    a, b = _log1p_exp(2 * (AC - AB)), _log1p_exp(2 * (BC - AB))
    loss = LOSSES["pair-contrastive"](scale=2)(FEATURES, LABELS)
    assert loss.item() == pytest.approx((a + b) / 3, rel=1e-5)  # c has no positive


def test_cosface_by_hand():
    a, b = _log1p_exp(2 * (AC - AB + 0.1)), _log1p_exp(2 * (BC - AB + 0.1))
    loss = LOSSES["pair-cosface"](scale=2, margin=0.1)(FEATURES, LABELS)
    assert loss.item() == pytest.approx((a + b) / 3, rel=1e-5)


def test_circle_by_hand():
    def term(negative: float) -> float:
        near = max(0.0, negative + 0.25) * (negative - 0.25)
        return _log1p_exp(2 * near + 2 * (1.25 - AB) * (0.75 - AB))

    loss = LOSSES["pair-circle"](scale=2, margin=0.25)(FEATURES, LABELS)
    assert loss.item() == pytest.approx((term(AC) + term(BC)) / 3, rel=1e-5)


def test_other_positives_are_not_in_the_denominator():
    # three of one identity, one other at right angles: every positive is weighed alone
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss = LOSSES["pair-contrastive"](scale=1)(features, torch.tensor([0, 0, 0, 1]))
    assert loss.item() == pytest.approx(3 / 4 * _log1p_exp(-1), rel=1e-5)


@pytest.mark.parametrize("name", PAIR_LOSSES)
@pytest.mark.parametrize(
    "labels", [[0, 0, 0], [0, 1, 2], [4]], ids=["no negative", "no positive", "one image"]
)
def test_nothing_to_compare_is_zero_with_a_zero_gradient(name, labels):
    features = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(0))
    features.requires_grad_()
    loss = LOSSES[name]()(features, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert not features.grad.any()  # NaN would count as true


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_an_anchor_without_positive_leaves_the_others_their_gradient(name):
    features = FEATURES.clone().requires_grad_()
    loss = LOSSES[name]()(features, LABELS)
    loss.backward()
    assert features.grad is not None
    assert features.grad.isfinite().all() and features.grad.any(1).all()


@pytest.mark.parametrize("name", PAIR_LOSSES)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_order_names_and_lengths_do_not_matter(name, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(7, 3, generator=generator)
    labels = torch.randint(3, (7,), generator=generator)
    order = torch.randperm(7, generator=generator)
    lengths = 0.1 + 10 * torch.rand(7, 1, generator=generator)
    loss = LOSSES[name]()(features, labels)
    assert loss.item() >= 0
    other = LOSSES[name]()((lengths * features)[order], 10 - 3 * labels[order])
    torch.testing.assert_close(other, loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["pair-contrastive", "pair-cosface"])
def test_gradients_are_the_derivatives(name):
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 1, 2])  # the last has no positive
    loss = LOSSES[name](scale=4)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), (features,))


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_in_float32_whatever_autocast_says(name):
    features = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    labels, loss = torch.arange(8) % 3, LOSSES[name]()
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(features, labels)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(features, labels))
    half = features.half().requires_grad_()
    loss(half, labels).backward()
    assert half.grad is not None
    assert half.grad.isfinite().all()


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_a_scale_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match="scale is -1"):
        LOSSES[name](scale=-1)
