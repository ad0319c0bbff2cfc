"""Blocks of CLIP's transformers computed in part, against the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock

from reid_train.models.clip.blocks import asked, block, first_row
from reid_train.models.clip.quick_gelu import QuickGelu
from reid_train.models.clip.visual import ClipResNet, ClipVit, DensePool


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def _block(width=12, heads=3):
    torch.manual_seed(0)
    made = ResidualAttentionBlock(width, heads, act_layer=QuickGelu).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def test_one_query_attends_without_keys_and_values():
    count, length, width, heads = 2, 5, 6, 3
    x, query = _random(count, length, width), _random(count, width, seed=1)
    weights = _random(2, width, width, seed=2).unbind()
    biases = [_random(width, seed=3).requires_grad_(), _random(width, seed=4)]
    key, value = (F.linear(x, w, b) for w, b in zip(weights, biases, strict=True))
    q, k, v = (y.unflatten(2, (heads, -1)).transpose(1, 2) for y in (query[:, None], key, value))
    expected = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)[:, 0]
    found = asked(query, x, weights, tuple(biases), heads=heads)
    torch.testing.assert_close(found, expected)
    # What every key has alike moves no attention; an optimiser is still told so.
    (gradient,) = torch.autograd.grad(found.square().sum(), biases[0])
    torch.testing.assert_close(gradient, torch.zeros(width).double(), atol=1e-12, rtol=0)


def test_a_block_is_open_clips():
    module, x = _block(), _random(2, 7, 12)
    whole = module(x)
    torch.testing.assert_close(block(module, x)[0], whole)
    rows = torch.tensor([[4, 0], [6, 6]])
    torch.testing.assert_close(
        block(module, x, rows=rows)[0], whole[torch.arange(2)[:, None], rows]
    )


def test_the_first_row_has_the_blocks_values_and_gradients():
    module, x = _block(), _random(2, 7, 12).requires_grad_()
    leaves = [x, *module.parameters()]
    probe = _random(2, 12, seed=5)
    whole, row = block(module, x)[0][:, 0], first_row(module, x)
    torch.testing.assert_close(row, whole)
    for mine, full in zip(
        torch.autograd.grad((row * probe).sum(), leaves),
        torch.autograd.grad((whole * probe).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(mine, full)


@pytest.mark.parametrize("positions", ["attention", "value"])
def test_the_pooled_row_is_that_of_the_dense_pool(positions):
    torch.manual_seed(0)
    pool = DensePool((3, 2), 8, 2, 5, positions=positions).double()
    x = _random(2, 8, 3, 2)
    torch.testing.assert_close(pool.pooled(x), pool(x)[:, 0])


def test_retrieval_features_need_one_row_of_the_last_stage():
    torch.manual_seed(0)
    trunk = ClipVit(
        input_size=(64, 32), patch=8, stride=8, width=16, layers=2, heads=2, output_dim=8
    )
    seen = []
    last: Any = trunk.image_encoder.transformer.resblocks[-1]
    last.ln_2.register_forward_hook(lambda _module, _given, y: seen.append(y.shape[:-1].numel()))
    images = torch.randn(3, 3, 64, 32)
    features, tokens = trunk(images), trunk.tokens(images)
    assert seen == [3, 3 * (1 + 8 * 4)]
    torch.testing.assert_close(features["feature"], tokens.final[:, 0])
    torch.testing.assert_close(features["embedding"][:, 16:], tokens.projected[:, 0])
    # The maps of a fusion head are made when one asks.
    (level,) = features["levels"]
    torch.testing.assert_close(level, tokens.levels[0])
    assert len(seen) == 3 and features["levels"][0] is level

    convolutional = ClipResNet(
        input_size=(64, 32), layers=(1, 1, 1, 1), width=8, heads=4, output_dim=16
    )
    queries = []
    convolutional.image_encoder.attnpool.q_proj.register_forward_hook(
        lambda _module, _given, y: queries.append(y.shape[:-1].numel())
    )
    found = convolutional.eval()(images)
    assert queries == [3]
    torch.testing.assert_close(
        found["projected"], convolutional.tokens(images).projected[:, 0], rtol=1e-4, atol=1e-5
    )
    with pytest.raises(KeyError):
        found["nothing"]


def test_quick_gelu_has_the_bits_of_the_plain_expression():
    x = torch.randn(999, generator=torch.Generator().manual_seed(0)) * 4
    probe = torch.randn(999, generator=torch.Generator().manual_seed(1))
    found, expected = [], []
    for results, function in (
        (found, QuickGelu()),
        (expected, lambda y: y * torch.sigmoid(1.702 * y)),
    ):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        y.backward(probe)
        results += [y.detach(), leaf.grad, function(x)]
    for mine, plain in zip(found, expected, strict=True):
        assert torch.equal(mine, plain)
