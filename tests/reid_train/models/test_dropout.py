"""The fast mask is dropout: right share, right scale, same mask forward and backward."""

from __future__ import annotations

import pytest
import torch

from reid_train.models.dropout import Dropout


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_share_scale_and_gradient(order):
    torch.manual_seed(0)
    x = torch.ones(8, 16, 32, 24).contiguous(memory_format=order).requires_grad_()
    y = Dropout(0.4)(x)
    assert y.is_contiguous(memory_format=order)
    kept = y != 0
    # 98,304 draws: the standard deviation of the share is 0.0016
    assert float((~kept).float().mean()) == pytest.approx(0.4, abs=0.008)
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / 0.6), rtol=1e-4, atol=0)
    (y * 3).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 3 * y.detach())


def test_neighbours_are_independent():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(200_000)) != 0).float()
    for distance in (1, 2, 3, 4):  # four masks share one 64-bit draw
        both = float((kept[:-distance] * kept[distance:]).mean())
        assert both == pytest.approx(0.25, abs=0.006)


def test_seeded_draws_repeat_and_odd_sizes_work():
    for size in (1, 3, 5, 1001):
        torch.manual_seed(3)
        first = Dropout(0.3)(torch.ones(size))
        torch.manual_seed(3)
        assert torch.equal(first, Dropout(0.3)(torch.ones(size)))


def test_edges_and_evaluation():
    x = torch.randn(4, 5)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
    assert torch.equal(Dropout(0.4).eval()(x), x)
    sliced = torch.ones(4, 10)[:, ::2]
    assert Dropout(0.4)(sliced).shape == sliced.shape


def test_bfloat16_keeps_its_type():
    assert Dropout(0.4)(torch.ones(3, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
