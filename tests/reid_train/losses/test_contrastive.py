"""Image-text contrast against hand values and the recorded ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_train.losses import LOSSES
from reid_train.losses.contrastive import SupCon, supervised_contrast


@pytest.fixture
def recorded(golden, fill):
    """Image and text features 8,64, their labels, four texts, and what the authors' code gave."""
    features = [
        torch.tensor(4 * fill.fill(name, shape), requires_grad=True)
        for name, shape in [
            ("loss.image", (8, 64)),
            ("loss.text", (8, 64)),
            ("loss.text4", (4, 64)),
        ]
    ]
    values = golden("clip_losses.npz")
    return *features, torch.as_tensor(values["supcon_labels"]), values


def test_both_directions_equal_the_recorded(recorded):
    image, text, _, labels, values = recorded
    i2t = SupCon(direction="image-to-text")(image, text, labels)
    t2i = SupCon(direction="text-to-image")(image, text, labels)
    assert i2t.item() == pytest.approx(float(values["supcon_i2t"]), rel=1e-5)
    assert t2i.item() == pytest.approx(float(values["supcon_t2i"]), rel=1e-5)


def test_the_sum_has_the_recorded_gradient(recorded):
    image, text, _, labels, values = recorded
    loss = LOSSES["image-text"]()(image, text, labels)
    grads = torch.autograd.grad(loss, (image, text))
    expected = float(values["supcon_i2t"]) + float(values["supcon_t2i"])
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(grads[0], values["supcon_grad_image"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grads[1], values["supcon_grad_text"], rtol=1e-5, atol=1e-6)


def test_one_text_per_identity_equals_the_recorded(recorded):
    image, _, text4, labels, values = recorded
    loss = SupCon(direction="image-to-text")(image, text4, labels, torch.arange(4))
    assert loss.item() == pytest.approx(float(values["supcon_rect"]), rel=1e-5)


def test_by_hand():
    # scores of the one anchor: 0, log 2, log 5; the first two are positives: chances 1/8 and 2/8
    candidates = torch.tensor([[0.0], [math.log(2)], [math.log(5)]])
    loss = supervised_contrast(
        torch.ones(1, 1), candidates, torch.tensor([3]), torch.tensor([3, 3, 1])
    )
    assert loss.item() == pytest.approx((math.log(8) + math.log(4)) / 2, rel=1e-6)
    # twice the temperature of twice the scores
    again = supervised_contrast(
        torch.ones(1, 1), 2 * candidates, torch.tensor([3]), torch.tensor([3, 3, 1]), 2.0
    )
    assert again.item() == pytest.approx(loss.item(), rel=1e-6)


def test_an_anchor_without_positive_adds_nothing():
    anchors = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    candidates = torch.eye(4)[:2]
    labels = torch.tensor([0, 7, 1])
    loss = supervised_contrast(anchors, candidates, labels, torch.tensor([0, 1]))
    loss.backward()
    two = supervised_contrast(anchors[::2], candidates, labels[::2], torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(two.item() * 2 / 3, rel=1e-6)
    assert anchors.grad is not None
    assert not anchors.grad[1].any() and anchors.grad[0].any()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50))
def test_neither_order_nor_a_shift_of_all_scores_matters(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(6, 5, generator=generator).double() for _ in range(2))
    labels = torch.randint(3, (6,), generator=generator)
    order = torch.randperm(6, generator=generator)
    loss = SupCon()(image, text, labels)
    torch.testing.assert_close(SupCon()(image[order], text[order], labels[order]), loss)
    # texts moved along a direction in which all images are 1: every score of a row moves alike
    one = torch.ones(6, 1, dtype=torch.float64)
    shifted = supervised_contrast(
        torch.cat([image, one], 1), torch.cat([text, shift * one], 1), labels, labels
    )
    torch.testing.assert_close(shifted, supervised_contrast(image, text, labels, labels))
    assert loss.item() >= 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_a_single_identity_is_at_least_uniform(seed):
    # all candidates positive: mean of -log chances, smallest (log M) when all are equal
    generator = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(4, 3, generator=generator) for _ in range(2))
    labels = torch.zeros(4, dtype=torch.long)
    assert supervised_contrast(image, text, labels, labels).item() >= math.log(4) - 1e-6
    assert supervised_contrast(0 * image, text, labels, labels).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("normalise", [False, True])
def test_gradients_are_the_derivatives(normalise):
    generator = torch.Generator().manual_seed(1)
    image, text = (
        torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    labels = torch.tensor([0, 0, 1, 2, 2])
    loss = SupCon(temperature=0.5, normalise=normalise)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, labels), (image, text))


def test_half_precision_scores_do_not_overflow():
    # dot products of 90,000 are beyond float16
    features = 300 * torch.eye(4)
    labels = torch.arange(4)
    with torch.autocast("cpu", torch.bfloat16):
        inside = SupCon()(features, features, labels)
    assert inside.dtype == torch.float32 and inside.item() == 0
    assert SupCon()(features.half(), features.half(), labels).item() == 0


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"direction": "sideways"}])
def test_wrong_options_are_named(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        SupCon(**options)
