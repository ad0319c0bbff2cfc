"""Losses of the parsers: hand-counted values and limits."""

from __future__ import annotations

import math

import pytest
import torch

from parsing_models.training.losses import edge_loss, edges, lovasz_softmax
from pipeline.labels.sets import IGNORE


def hard(labels: list[int], classes: int = 3) -> torch.Tensor:
    return 40.0 * torch.nn.functional.one_hot(torch.tensor(labels), classes).float()


def test_lovasz_of_hard_predictions_is_one_minus_iou():
    truth = torch.tensor([0, 0, 0, 1, 1, 2])
    logits = hard([0, 0, 1, 1, 1, 2])
    # IoU 2/3, 2/3 and 1 over the classes present.
    assert lovasz_softmax(logits, truth).item() == pytest.approx((1 / 3 + 1 / 3 + 0) / 3, abs=1e-6)
    assert lovasz_softmax(hard(truth.tolist()), truth).item() == pytest.approx(0.0, abs=1e-6)


def test_lovasz_of_two_pixels_by_hand():
    # Class 0 with errors .4 (truth) and .3: sorted, Jaccard steps 1 and 0 -> .4; class 1 with
    # errors .4 (no truth) and .3 (truth): steps 1/2, 1/2 -> .35.
    probabilities = torch.tensor([[0.6, 0.4], [0.3, 0.7]])
    loss = lovasz_softmax(probabilities.log(), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx((0.4 + 0.35) / 2, abs=1e-6)


def test_lovasz_leaves_ignored_pixels_out_and_has_a_gradient():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    truth = torch.tensor([0, 1, 2, IGNORE, 0, IGNORE])
    loss = lovasz_softmax(logits, truth)
    kept = truth != IGNORE
    assert loss.item() == pytest.approx(lovasz_softmax(logits[kept], truth[kept]).item())
    loss.backward()
    assert logits.grad is not None and logits.grad[kept].abs().sum() > 0
    assert (logits.grad[~kept] == 0).all()
    assert lovasz_softmax(logits, torch.full((6,), IGNORE)).item() == 0.0


def test_edges_are_transitions_grown_by_one():
    labels = torch.zeros(1, 5, 7, dtype=torch.long)
    labels[0, :, 4:] = 3
    labels[0, 0, 0] = IGNORE
    found = edges(labels)
    assert found[0, 0, 0] == IGNORE
    assert found[0, 2].tolist() == [0, 0, 1, 1, 1, 1, 0]
    diagonal = torch.zeros(1, 4, 4, dtype=torch.long)
    diagonal[0, 0, 3] = 1
    assert edges(diagonal)[0, 0].tolist() == [0, 1, 1, 1]


def test_edge_loss_weights_each_side_by_the_other_s_share():
    labels = torch.zeros(1, 4, 8, dtype=torch.long)
    labels[0, :, 4:] = 1
    target = edges(labels)
    p = target.float().mean().item()
    logits = torch.zeros(1, 2, 4, 8)
    logits[:, 1] = 1.0
    on, off = math.log1p(math.exp(-1.0)), math.log1p(math.exp(1.0))
    # Both sides weigh p (1 - p) in total.
    assert edge_loss(logits, edges(labels)).item() == pytest.approx((on + off) / 2, abs=1e-5)
    assert 0 < p < 1
    nothing = torch.full((1, 4, 8), IGNORE)
    assert edge_loss(logits, edges(nothing)).item() == 0.0
