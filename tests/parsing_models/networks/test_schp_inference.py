"""The network as inference runs it: the published one's fusion logits, cheaper."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from parsing_models.networks.schp.inference import FusionOnly
from parsing_models.networks.schp.network import ABN, SCHP, TINY, Widths

NARROW = Widths(layers=(1, 1, 1, 1), stem=4, planes=4, context=8, head=6, skip=3, edge=5)


def network(widths: Widths) -> SCHP:
    """A network whose every tensor matters: norms with scales of both signs and their own means."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = SCHP(widths).eval()
        for module in made.modules():
            if isinstance(module, ABN):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return made


@pytest.mark.parametrize(
    ("widths", "size"),
    [(TINY, (192, 96)), (NARROW, (65, 33)), (NARROW, (97, 97)), (NARROW, (128, 48))],
    ids=["tiny", "odd", "square", "narrow"],
)
def test_fusion_logits_are_those_of_the_published_network(widths: Widths, size: tuple[int, int]):
    whole = network(widths)
    fast = FusionOnly(copy.deepcopy(whole)).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = whole(images).fusion, fast(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = fast(images).float()
    spread = float(expected.abs().max())
    assert found.shape == expected.shape and spread > 0.1
    assert float((found - expected).abs().max()) < 3e-6 * max(1, spread)
    assert 0 < float((rough - expected).abs().max()) < 0.05 * max(1, spread)


def test_no_weight_is_kept_twice():
    whole = network(NARROW)
    published = sum(value.numel() for value in whole.state_dict().values())
    fast = FusionOnly(whole)
    assert sum(value.numel() for value in fast.state_dict().values()) < published
