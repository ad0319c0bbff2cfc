"""Margin losses against hand values and the recorded ones; the head that feeds them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_train.losses import LOSSES
from reid_train.models.heads import CosineClassifier

MARGIN_LOSSES = ["cosface", "arcface", "circle"]
GOLDEN = {
    "cosface": "cla_cosface_s16_m0.1",
    "arcface": "cla_arcface_s16_m0.1",
    "circle": "cla_circle_s96_m0.3",
}


@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_equals_the_recorded(name, golden):
    recorded = golden("simplereid_losses.npz")
    cosines = torch.tensor(recorded["cos_logits"], requires_grad=True)
    loss = LOSSES[name]()(cosines, torch.as_tensor(recorded["labels"]))
    (grad,) = torch.autograd.grad(loss, cosines)
    assert loss.item() == pytest.approx(float(recorded[GOLDEN[name]]), rel=1e-5)
    np.testing.assert_allclose(grad, recorded[f"{GOLDEN[name]}.grad"], rtol=1e-5, atol=1e-6)


def test_the_head_gives_the_recorded_cosines(golden, fill):
    recorded = golden("simplereid_losses.npz")
    head = CosineClassifier(dim=32, classes=8)
    head.load_state_dict({"weight": torch.tensor(fill.fill("loss.classweight", (8, 32)))})
    cosines = head(torch.tensor(recorded["features"]))
    np.testing.assert_allclose(cosines.detach(), recorded["cos_logits"], rtol=1e-5, atol=1e-6)


def test_the_head_stays_in_float32_and_ignores_lengths():
    torch.manual_seed(0)
    head, feature = CosineClassifier(dim=6, classes=4), torch.randn(3, 6)
    expected = head(feature)
    assert expected.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(4))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(feature), expected)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[1.0], [2.0], [7.0], [0.1]]))
    torch.testing.assert_close(head(5 * feature), expected)


def _loss_of(name: str, right: float, wrong: float, **options: float) -> float:
    return LOSSES[name](**options)(torch.tensor([[wrong, right]]), torch.tensor([1])).item()


def test_cosface_by_hand():
    expected = math.log(1 + math.exp(4 * (0.2 - (0.6 - 0.1))))
    assert _loss_of("cosface", 0.6, 0.2, scale=4, margin=0.1) == pytest.approx(expected, rel=1e-5)


def test_arcface_by_hand_on_both_sides_of_the_turning_point():
    turned = math.cos(math.acos(0.6) + 0.4)
    expected = math.log(1 + math.exp(4 * (0.2 - turned)))
    assert _loss_of("arcface", 0.6, 0.2, scale=4, margin=0.4) == pytest.approx(expected, rel=1e-5)
    # cos(pi - 0.4) = -0.921: beyond it the angle would turn back
    expected = math.log(1 + math.exp(4 * (0.2 + 0.95 + 0.4 * math.sin(0.4))))
    assert _loss_of("arcface", -0.95, 0.2, scale=4, margin=0.4) == pytest.approx(expected, rel=1e-5)


def test_arcface_rises_with_the_angle():
    angles = torch.linspace(0.01, math.pi - 0.01, 200, dtype=torch.float64)
    losses = [_loss_of("arcface", math.cos(a), 0.0, margin=0.3) for a in angles.tolist()]
    assert (np.diff(losses) >= -1e-5).all()


@pytest.mark.parametrize("cosine", [1.0, 1.0000001, -1.0, -1.0000001])
def test_arcface_at_the_poles_is_finite(cosine):
    cosines = torch.tensor([[cosine, 0.3, cosine]], requires_grad=True)
    loss = LOSSES["arcface"]()(cosines, torch.tensor([0]))
    loss.backward()
    assert loss.isfinite() and cosines.grad is not None
    assert cosines.grad.isfinite().all()


def test_circle_by_hand():
    # right 0.6: weight 1.25 - 0.6, distance to 0.75; wrong 0.2: weight 0.45, distance to 0.25;
    # wrong -0.5: weight 0
    scores = [0.45 * (0.2 - 0.25), 0.65 * (0.6 - 0.75), 0.0]
    expected = math.log(sum(math.exp(4 * s) for s in scores)) - 4 * scores[1]
    cosines = torch.tensor([[0.2, 0.6, -0.5]], requires_grad=True)
    loss = LOSSES["circle"](scale=4, margin=0.25)(cosines, torch.tensor([1]))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    # the weights are constants: d/d(right) = scale * weight * (chance - 1)
    chance = math.exp(-expected)
    assert cosines.grad is not None
    assert cosines.grad[0, 1].item() == pytest.approx(4 * 0.65 * (chance - 1), rel=1e-5)
    assert cosines.grad[0, 2].item() == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_no_margin_is_scaled_cross_entropy(seed):
    generator = torch.Generator().manual_seed(seed)
    cosines = 1.8 * torch.rand(5, 4, generator=generator) - 0.9
    labels = torch.randint(4, (5,), generator=generator)
    plain = F.cross_entropy(16 * cosines, labels)
    for name in ("cosface", "arcface"):
        torch.testing.assert_close(LOSSES[name](margin=0.0)(cosines, labels), plain)
        assert LOSSES[name]()(cosines, labels) > plain


@pytest.mark.parametrize("name", MARGIN_LOSSES)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_neither_the_order_of_images_nor_of_classes_matters(name, seed):
    generator = torch.Generator().manual_seed(seed)
    cosines = 1.8 * torch.rand(6, 4, generator=generator) - 0.9
    labels = torch.randint(4, (6,), generator=generator)
    images, classes = (torch.randperm(n, generator=generator) for n in (6, 4))
    loss = LOSSES[name]()(cosines, labels)
    moved = LOSSES[name]()(cosines[images][:, classes], classes.argsort()[labels[images]])
    torch.testing.assert_close(moved, loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cosface", "arcface"])
def test_gradients_are_the_derivatives(name):
    cosines = torch.tensor(
        [[0.3, -0.2, 0.9], [-0.99, 0.1, 0.4], [0.5, 0.2, 0.7]], dtype=torch.float64
    ).requires_grad_()
    labels = torch.tensor([0, 0, 2])  # the second is beyond the turning point
    loss = LOSSES[name](scale=4, margin=0.4)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), (cosines,))


@pytest.mark.parametrize("name", MARGIN_LOSSES)
def test_half_precision_is_raised_to_float32(name):
    cosines = torch.tensor([[0.5, -0.25, 0.125]])
    loss, labels = LOSSES[name](), torch.tensor([1])
    half = loss(cosines.half(), labels)
    assert half.dtype == torch.float32 and torch.equal(half, loss(cosines, labels))


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="scale is 0"):
        LOSSES["circle"](scale=0)
    with pytest.raises(ValueError, match="margin is 4"):
        LOSSES["arcface"](margin=4.0)
