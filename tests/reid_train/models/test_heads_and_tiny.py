"""Classifiers by hand values, the neck's frozen shift, the tiny trunk's shapes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.plugins.options import accepted
from reid_train.models import HEADS
from reid_train.models.heads import (
    BNNeck,
    CosineSoftmax,
    LinearClassifier,
    NeckClassifier,
    WeightNormLinear,
)
from reid_train.models.tiny import Tiny

CLASSIFIERS = [name for name in HEADS.own if "classes" in (accepted(HEADS[name]) or ())]


def test_cosine_softmax_by_hand():
    head = CosineSoftmax(dim=2, classes=2)
    assert float(head.k) == 1.0
    with torch.no_grad():
        head.cosine_weights.copy_(torch.tensor([[3.0, 0.0], [4.0, 5.0]]))  # columns: classes
        head.k.fill_(10.0)
    torch.testing.assert_close(head(torch.tensor([[1.0, 0.0]])), torch.tensor([[6.0, 0.0]]))
    # the feature is used as it comes: a norm of 2 doubles the logits
    torch.testing.assert_close(head(torch.tensor([[0.0, 2.0]])), torch.tensor([[16.0, 20.0]]))


def test_weight_norm_is_torchs_own():
    torch.manual_seed(0)
    ours = WeightNormLinear(dim=6, classes=4)
    theirs = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4, bias=False))
    with torch.no_grad():
        ours.weight_g.mul_(1.7)
    theirs.load_state_dict(
        {
            "parametrizations.weight.original0": ours.weight_g,
            "parametrizations.weight.original1": ours.weight_v,
        }
    )
    x = torch.randn(3, 6)
    torch.testing.assert_close(ours(x), theirs(x))


def test_weight_norm_starts_as_a_plain_linear_layer():
    head = WeightNormLinear(dim=6, classes=4)
    x = torch.randn(3, 6)
    torch.testing.assert_close(head(x), F.linear(x, head.weight_v))


def test_neck_shift_is_frozen_unless_asked():
    neck = BNNeck(3)
    assert not neck.bias.requires_grad and neck.weight.requires_grad
    assert BNNeck(3, frozen_bias=False).bias.requires_grad
    x = torch.tensor([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    expected = torch.tensor([[-1.0], [1.0]]).expand(2, 3)
    torch.testing.assert_close(neck(x), expected, atol=1e-4, rtol=0)


def test_neck_classifier_reads_the_normalised_feature():
    head = NeckClassifier(dim=3, classes=2).eval()
    x = torch.randn(4, 3)
    torch.testing.assert_close(head(x), F.linear(head.bottleneck(x), head.classifier.weight))
    assert set(head.state_dict()) == {
        *(f"bottleneck.{k}" for k in BNNeck(3).state_dict()),
        "classifier.weight",
    }


def test_linear_classifier_starts_small_and_takes_a_bias():
    torch.manual_seed(0)
    head = LinearClassifier(dim=64, classes=50, bias=True)
    assert float(head.classifier.weight.std()) == pytest.approx(0.001, rel=0.1)
    assert not head(torch.zeros(1, 64)).any()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_head_gives_logits_and_gradients_to_all_it_trains(name):
    head = HEADS[name](dim=8, classes=5)
    logits = head(torch.randn(6, 8))
    assert logits.shape == (6, 5)
    F.cross_entropy(logits, torch.arange(6) % 5).backward()
    for parameter in head.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad


def test_tiny_features_and_map():
    trunk = Tiny().eval()
    x = torch.randn(2, 3, 128, 64)
    features = trunk(x)
    assert {name: value.shape[1] for name, value in features.items()} == trunk.feature_dims
    assert trunk.map(x).shape == (2, 96, 8, 4)


def test_tiny_knows_where_a_colour_is():
    torch.manual_seed(0)
    shirt = torch.zeros(1, 3, 128, 64)
    shirt[:, 0, :64] = 1
    trousers = shirt.flip(2)
    by_band, pooled = Tiny(stripes=2).eval(), Tiny(stripes=1).eval()

    def distance(trunk):
        a, b = (F.normalize(trunk(x)["global"]) for x in (shirt, trousers))
        return float((a - b).norm().detach())

    assert distance(by_band) > 3 * distance(pooled)
