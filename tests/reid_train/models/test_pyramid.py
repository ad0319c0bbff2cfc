"""Fusion heads: resampling against torch's own and by hand, shapes, gradients."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reid_train.models import HEADS
from reid_train.models.pyramid import (
    ChannelNorm,
    ConvFusion,
    Doubling,
    SimplePyramid,
    SingleMap,
    TokenFusion,
    TokenMap,
    fused_grid,
    resample,
    token_map,
)
from reid_train.recipe.loading import load_recipe


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_resampling_is_torchs_for_whole_factors():
    x = _random(2, 3, 8, 6)
    torch.testing.assert_close(resample(x, (4, 3)), F.avg_pool2d(x, 2))
    torch.testing.assert_close(resample(x, (2, 2)), F.avg_pool2d(x, (4, 3)))
    assert resample(x, (8, 6)) is x
    for grid in ((16, 12), (24, 6)):
        torch.testing.assert_close(
            resample(x, grid), F.interpolate(x, grid, mode="bilinear", align_corners=False)
        )


def test_resampling_by_area_by_hand():
    # 3 cells to 2: each takes one and a half
    x = torch.tensor([2.0, 4.0, 8.0]).view(1, 1, 3, 1)
    expected = torch.tensor([(2 + 4 / 2) / 1.5, (4 / 2 + 8) / 1.5]).view(1, 1, 2, 1)
    torch.testing.assert_close(resample(x, (2, 1)), expected)


@settings(max_examples=30, deadline=None)
@given(
    source=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    begin=st.floats(-0.1, 0.2),
    end=st.floats(0.7, 1.1),
)
def test_resampling_keeps_constants_and_mirrors(source, grid, begin, end):
    spans = ((begin, end), (begin, end))
    ones = resample(torch.ones(1, 1, *source), grid, spans=spans)
    torch.testing.assert_close(ones, torch.ones(1, 1, *grid))
    x, turned = _random(1, 2, *source), ((1 - end, 1 - begin), (begin, end))
    torch.testing.assert_close(
        resample(x.flip(2), grid, spans=turned), resample(x, grid, spans=spans).flip(2)
    )


def test_overlapping_tokens_are_placed_by_their_centres():
    # a map that holds its tokens' own rows and columns in pixels, 12 i + 8, gives 8 j + 4
    rows, columns = torch.arange(21.0) * 12 + 8, torch.arange(10.0) * 12 + 8
    tokens = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
    pyramid = SimplePyramid(width=4, dim=2, grid=(32, 16), stride=12)
    placed = pyramid._placed(tokens, 1.0)
    torch.testing.assert_close(placed[0, 0, 1:31, 0], torch.arange(1.0, 31) * 8 + 4)
    torch.testing.assert_close(placed[0, 1, 0, 1:14], torch.arange(1.0, 14) * 8 + 4)
    assert placed[0, 0, 0, 0] == 8 and placed[0, 1, 0, 15] == 116  # beyond the outermost centres
    # finer and coarser levels are the same places: 4 cells and half a cell per token
    fine = torch.arange(84.0) * 3 + 2 + 1.5
    level = fine.view(1, 1, 84, 1).expand(1, 1, 84, 40)
    averaged = pyramid._placed(level, 4.0)[0, 0, :, 0]
    torch.testing.assert_close(averaged[1:31], torch.arange(1.0, 31) * 8 + 4, atol=0.5, rtol=0)
    coarse = (torch.arange(11.0) * 24 + 14).view(1, 1, 11, 1).expand(1, 1, 11, 5)
    torch.testing.assert_close(
        pyramid._placed(coarse, 0.5)[0, 0, 2:31, 0], torch.arange(2.0, 31) * 8 + 4
    )


def test_conv_fusion_equals_the_papers_order():
    """Convolution first, then pooling, identity and bilinear to stride 8, then the sum."""
    torch.manual_seed(0)
    fusion = ConvFusion(channels=(4, 6, 8), dim=5, grid=fused_grid((64, 32)))
    levels = [_random(2, 4, 16, 8), _random(2, 6, 8, 4), _random(2, 8, 4, 2)]
    fine, same, coarse = (lateral(x) for lateral, x in zip(fusion.laterals, levels, strict=True))
    expected = (
        F.avg_pool2d(fine, 2)
        + same
        + F.interpolate(coarse, (8, 4), mode="bilinear", align_corners=False)
    )
    torch.testing.assert_close(fusion(levels), expected, rtol=1e-5, atol=1e-6)


def test_conv_fusion_convolves_at_the_smaller_size():
    fusion, seen = ConvFusion(channels=(2, 2, 2), dim=3, grid=(8, 4)), []
    for lateral in fusion.laterals:
        lateral.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    fusion([_random(1, 2, 16, 8), _random(1, 2, 8, 4), _random(1, 2, 4, 2)])
    assert seen == [(8, 4), (8, 4), (4, 2)]


def test_conv_fusion_by_hand():
    fusion = ConvFusion(channels=(1, 1), dim=1, grid=(1, 1))
    for lateral, weight, bias in zip(fusion.laterals, (2.0, 3.0), (0.5, 0.25), strict=True):
        nn.init.constant_(lateral.get_parameter("weight"), weight)
        nn.init.constant_(lateral.get_parameter("bias"), bias)
    levels = [torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]), torch.tensor([[[[5.0]]]])]
    assert fusion(levels).item() == pytest.approx(2 * 3 + 0.5 + 3 * 5 + 0.25)


@pytest.mark.parametrize(
    ("channels", "strides", "size"),
    [
        ((256, 512, 1024), (4, 8, 16), (256, 128)),  # RN50
        ((24, 32, 96), (4, 8, 16), (256, 128)),  # MobileNetV2
        ((24, 48, 96), (4, 8, 16), (128, 64)),  # tiny
    ],
)
@pytest.mark.parametrize("fuse", ["sum", "conv3x3"])
def test_conv_fusion_has_stride_8_and_trains_every_level(channels, strides, size, fuse):
    grid = fused_grid(size)
    fusion = ConvFusion(channels=channels, dim=16, grid=grid, fuse=fuse)
    levels = [
        _random(1, c, size[0] // s, size[1] // s).requires_grad_()
        for c, s in zip(channels, strides, strict=True)
    ]
    fused = fusion(levels)
    assert fused.shape == (1, 16, *grid)
    fused.square().sum().backward()
    for leaf in (*levels, *fusion.parameters()):
        assert leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_channel_norm_sees_one_position_at_a_time():
    x = _random(2, 6, 3, 4)
    norm = ChannelNorm(6, eps=1e-6)
    y = norm(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 3, 4), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.var(1, correction=0), torch.ones(2, 3, 4), rtol=1e-4, atol=0)
    assert torch.equal(norm(x[:, :, :1, :1]), y[:, :, :1, :1])


def test_doubling_is_a_deconvolution():
    torch.manual_seed(0)
    doubling, x = Doubling(6, 4), _random(2, 6, 3, 2)
    expected = F.conv_transpose2d(x, doubling.weight, doubling.bias, stride=2)
    for map_ in (x, x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(doubling(map_), expected)


def test_token_fusion_is_the_papers_equations_on_vitdets_maps():
    torch.manual_seed(0)
    fusion = TokenFusion(width=8, dim=5, grid=(8, 4), input_size=(64, 32))
    tokens = _random(2, 8, 4, 2)
    finest_level: Any = fusion.levels[0]
    first, norm, gelu, second = finest_level
    finest = second(gelu(norm(first(tokens))))
    maps = [finest, fusion.levels[1](tokens), tokens]
    assert [tuple(m.shape[1:]) for m in maps] == [(2, 16, 8), (4, 8, 4), (8, 4, 2)]
    fine, same, coarse = (lateral(m) for lateral, m in zip(fusion.laterals, maps, strict=True))
    expected = F.avg_pool2d(fine, 2) + same
    expected = expected + F.interpolate(coarse, (8, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(fusion([tokens]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [16, 12])
def test_token_fusion_trains_every_level_of_overlapping_patches_too(stride):
    grid = {16: (16, 8), 12: (21, 10)}[stride]
    fusion = TokenFusion(width=16, dim=8, grid=fused_grid((256, 128)), stride=stride)
    tokens = token_map(_random(1, grid[0] * grid[1], 16), grid).requires_grad_()
    fused = fusion([tokens])
    assert fused.shape == (1, 8, 32, 16)
    fused.square().sum().backward()
    for leaf in (tokens, *fusion.parameters()):
        assert leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_resampling_is_the_same_in_both_orders_of_memory():
    x = _random(2, 6, 16, 8)
    last = x.contiguous(memory_format=torch.channels_last)
    for grid in ((8, 4), (32, 16), (5, 8)):
        torch.testing.assert_close(resample(last, grid), resample(x, grid))
        assert resample(last, grid).is_contiguous(memory_format=torch.channels_last)


def test_pyramid_levels_have_vitdets_scales():
    pyramid = SimplePyramid(width=16, dim=8, grid=(32, 16))
    x = _random(1, 16, 16, 8)
    shapes = [level(x).shape[2:] for level in pyramid.levels]
    assert shapes == [(64, 32), (32, 16), (16, 8), (8, 4)]
    odd = [level(_random(1, 16, 21, 10)).shape[2:] for level in pyramid.levels]
    assert odd == [(84, 40), (42, 20), (21, 10), (11, 5)]  # no token is dropped
    counts = [sum(p.numel() for p in level.parameters()) for level in pyramid.levels]
    out = 8 * 8 * 9 + 4 * 8  # 3x3 convolution without bias and the two norms
    assert counts == [
        (16 * 8 * 4 + 8) + 2 * 8 + (8 * 4 * 4 + 4) + 4 * 8 + out,
        (16 * 8 * 4 + 8) + 8 * 8 + out,
        16 * 8 + out,
        16 * 8 + out,
    ]


@pytest.mark.parametrize(("stride", "tokens"), [(16, (16, 8)), (12, (21, 10))])
def test_pyramid_fuses_tokens_to_stride_8(stride, tokens):
    pyramid = SimplePyramid(width=16, dim=8, grid=fused_grid((256, 128)), stride=stride)
    x = token_map(_random(2, tokens[0] * tokens[1], 16), tokens).requires_grad_()
    fused = pyramid([x])
    assert fused.shape == (2, 8, 32, 16)
    (fused * _random(*fused.shape, seed=1)).sum().backward()
    for leaf in pyramid.parameters():
        assert leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_pyramid_of_fewer_scales_is_their_sum():
    torch.manual_seed(0)
    pyramid = SimplePyramid(width=8, dim=4, grid=(32, 16), scales=(2, 1))
    x = _random(1, 8, 16, 8)
    fine, own = (level(x) for level in pyramid.levels)
    expected = fine + F.interpolate(own, (32, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(pyramid([x]), expected)


def test_token_map_is_row_by_row():
    tokens = torch.arange(12.0).view(1, 6, 2)
    square = token_map(tokens, (3, 2))
    assert square[0, 0].tolist() == [[0, 2], [4, 6], [8, 10]]
    with pytest.raises(ValueError, match="no class token"):
        token_map(torch.zeros(1, 129, 4), (16, 8))


def test_single_map_takes_the_last_level():
    torch.manual_seed(0)
    single = SingleMap(width=6, dim=4)
    levels = [_random(1, 3, 8, 4), _random(1, 6, 4, 2)]
    assert torch.equal(single(levels), single.lateral(levels[1]))
    wide = SingleMap(width=6, dim=4, grid=(8, 4))
    assert wide(levels).shape == (1, 4, 8, 4)


def test_a_map_of_tokens_lies_where_their_patches_are():
    """Stride 12: the ten tokens of a row have their centres at 8, 20, ..., 116 pixels of 128."""
    single = TokenMap(width=1, dim=1, grid=(32, 16), stride=12)
    nn.init.ones_(single.lateral.weight)
    assert single.lateral.bias is not None
    nn.init.zeros_(single.lateral.bias)
    across = (12.0 * torch.arange(10) + 8).expand(1, 1, 21, 10)
    down = (12.0 * torch.arange(21) + 8)[:, None].expand(1, 1, 21, 10)
    centres = 8 * torch.arange(32) + 4.0
    expected = centres[:16].clamp(8, 116).expand(32, 16)
    torch.testing.assert_close(single([across])[0, 0], expected)
    expected = centres.clamp(8, 248)[:, None].expand(32, 16)
    torch.testing.assert_close(single([down])[0, 0], expected)


def test_a_map_of_tokens_that_do_not_overlap_is_a_single_map():
    torch.manual_seed(0)
    even = SingleMap(width=3, dim=2, grid=(32, 16))
    torch.manual_seed(0)
    placed = TokenMap(width=3, dim=2, grid=(32, 16))
    tokens = _random(2, 3, 16, 8)
    torch.testing.assert_close(placed([tokens]), even([tokens]))


@pytest.mark.parametrize("name", ["pi-vl-vit", "pi-vl-vit-p", "pi-vl-vit-h"])
def test_recipes_of_overlapping_tokens_place_them(name):
    recipe = load_recipe(name)
    assert recipe.model.options["stride"] == 12
    head = HEADS[recipe.model.heads["dense"].kind]
    assert {"input_size", "patch", "stride"} <= set(inspect.signature(head).parameters)


def test_wrong_options_and_levels_are_named():
    with pytest.raises(ValueError, match="concat"):
        ConvFusion(channels=(1,), dim=1, grid=(1, 1), fuse="concat")
    with pytest.raises(ValueError, match="scale 8"):
        SimplePyramid(width=8, dim=4, grid=(2, 2), scales=(8,))
    with pytest.raises(ValueError, match="found 1 maps; expected 2"):
        ConvFusion(channels=(1, 1), dim=1, grid=(1, 1))([torch.zeros(1, 1, 1, 1)])
    with pytest.raises(ValueError, match="no map"):
        SingleMap(width=1, dim=1)([])
