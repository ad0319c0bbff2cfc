"""Swin: windows, masks and mergings against plain definitions; what the controller acts on."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from parsing_models.networks.swin import (
    STRIDES,
    PatchMerging,
    ShiftedWindows,
    Swin,
    SwinSizes,
    relative_position_index,
    shift_mask,
)

SMALL = SwinSizes(dim=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4))


def filled(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter drawn, so that no bias, table or controller is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(fan))
    return network.eval()


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> Swin:
    swin = filled(Swin(SMALL, semantic_weight=0.8))
    assert isinstance(swin, Swin)
    return swin


def test_position_index_counts_differences_of_cells():
    index = relative_position_index()
    assert index.shape == (49, 49)
    # Same cell: the middle of the table. First against last cell: the first row, and back.
    assert index[0, 0] == index[48, 48] == 84
    assert index[0, 48] == 0 and index[48, 0] == 168
    # Cell (0, 1) against (0, 0): one to the right; (1, 0): one below.
    assert index[1, 0] == 85 and index[7, 0] == 97


def test_mask_parts_opposite_borders():
    mask = shift_mask(10, 14)  # 14 x 14 with padding: 2 x 2 windows
    assert mask.shape == (4, 49, 49)
    assert set(mask.unique().tolist()) == {-100.0, 0.0}
    assert not mask[0].any()
    # Top right window: columns 0-3 come from its own place, 4-6 from the left border.
    side = torch.arange(49) % 7 >= 4
    assert torch.equal(mask[1] != 0, side[:, None] != side[None])
    # Bottom left: the same for rows.
    half = torch.arange(49) // 7 >= 4
    assert torch.equal(mask[2] != 0, half[:, None] != half[None])
    # A single window is shifted and masked like any other: four parts.
    corner = 2 * half.long() + side.long()
    assert torch.equal(shift_mask(7, 5)[0] != 0, corner[:, None] != corner[None])
    assert torch.equal(shift_mask(7, 5)[0], mask[3])


@pytest.mark.parametrize("shifted", [False, True])
def test_windows_are_attention_among_the_cells_of_a_window(shifted):
    """Against the definition, cell by cell: keys are the cells of the same window of the (moved)
    grid that did not wrap around another border; padding holds zeros and is attended to."""
    height, width, dim, heads = 9, 8, 4, 2
    layer = filled(ShiftedWindows(dim, heads, shifted=shifted))
    assert isinstance(layer, ShiftedWindows)
    x = drawn(1, height, width, dim)
    with torch.inference_mode():
        found = layer(x, shift_mask(height, width))[0]
        padded = F.pad(x, (0, 0, 0, 6, 0, 5))[0]  # 14,14,dim
        query, key, value = layer.w_msa.qkv(padded).reshape(14, 14, 3, heads, -1).unbind(2)
    table = layer.w_msa.relative_position_bias_table.detach().numpy()
    move = 3 if shifted else 0

    def place(row: int, column: int) -> tuple[int, int]:
        return (row - move) % 14, (column - move) % 14

    def group(row: int, column: int) -> tuple[int, ...]:
        y, x = place(row, column)
        wrapped = (row < move, column < move)
        return (y // 7, x // 7, *wrapped)

    cells = [(row, column) for row in range(14) for column in range(14)]
    for row in range(height):
        for column in range(width):
            y, x_ = place(row, column)
            keys = [cell for cell in cells if group(*cell) == group(row, column)]
            merged = []
            for head in range(heads):
                scores = []
                for r, c in keys:
                    ky, kx = place(r, c)
                    bias = table[13 * (y - ky + 6) + x_ - kx + 6, head]
                    dot = float(query[row, column, head] @ key[r, c, head])
                    scores.append(dot / math.sqrt(dim // heads) + bias)
                weights = torch.tensor(scores).softmax(0)
                merged.append(weights @ torch.stack([value[r, c, head] for r, c in keys]))
            with torch.inference_mode():
                expected = layer.w_msa.proj(torch.cat(merged))
            assert torch.allclose(found[row, column], expected, atol=1e-5)


def test_merging_interleaves_channels_and_pads_below_and_right():
    merging = PatchMerging(2, 2)
    with torch.no_grad():
        merging.reduction.weight.copy_(torch.eye(4, 8))
    merging.norm = torch.nn.LayerNorm(8, elementwise_affine=False)
    x = torch.arange(18.0).reshape(1, 3, 3, 2)  # channel c of cell i: 2 i + c
    with torch.no_grad():
        merged = merging(x)
    assert merged.shape == (1, 2, 2, 4)

    def normalised(*values: float) -> torch.Tensor:
        return F.layer_norm(torch.tensor(values, dtype=torch.float32), (8,))[:4]

    # Channel 0 of the cells (0,0), (0,1), (1,0), (1,1), then channel 1 of them.
    assert torch.allclose(merged[0, 0, 0], normalised(0, 2, 6, 8, 1, 3, 7, 9))
    assert torch.allclose(merged[0, 0, 1], normalised(4, 0, 10, 0, 5, 0, 11, 0))
    assert torch.allclose(merged[0, 1, 1], normalised(16, 0, 0, 0, 17, 0, 0, 0))
    merging.stride = 1
    with torch.no_grad():
        kept = merging(x)
    assert kept.shape == (1, 3, 3, 4)
    assert torch.allclose(kept[0, 0, 1], normalised(2, 4, 8, 10, 3, 5, 9, 11))
    assert torch.allclose(kept[0, 0, 2], normalised(4, 0, 10, 0, 5, 0, 11, 0))


@settings(max_examples=30)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_maps_of_any_input_are_rounded_up(height, width):
    with torch.inference_mode():
        maps = Swin(SMALL, semantic_weight=0.0).features(torch.zeros(1, 3, height, width))
    sides = [(height, width)]
    for stride in STRIDES:
        sides.append((math.ceil(sides[-1][0] / stride), math.ceil(sides[-1][1] / stride)))
    assert [tuple(each.shape[2:]) for each in maps] == sides[1:]
    assert [each.shape[1] for each in maps] == [8, 16, 32, 64]


def test_an_image_does_not_depend_on_its_batch(network):
    images = drawn(3, 3, 45, 37)
    with torch.inference_mode():
        together = network.features(images)
        alone = network.features(images[1:2])
    for batch, single in zip(together, alone, strict=True):
        assert torch.allclose(batch[1:2], single, atol=1e-5)


def test_the_semantic_weight_acts_on_stages_two_to_four(network):
    images = drawn(1, 3, 40, 24)

    def features(weight: float) -> list[torch.Tensor]:
        swin = Swin(SMALL, semantic_weight=weight).eval()
        state = {k: v for k, v in network.state_dict().items() if k != "semantic_weight"}
        swin.load_state_dict(state, strict=False)
        with torch.inference_mode():
            return list(swin.features(images))

    full, none, disabled, other = features(0.8), features(0.0), features(-1.0), features(-0.3)
    for at, (a, b) in enumerate(zip(full, none, strict=True)):
        assert torch.equal(a, b) == (at == 0)
    assert not torch.allclose(disabled[1], none[1])
    assert all(torch.equal(a, b) for a, b in zip(disabled, other, strict=True))


def test_the_controllers_formula(network):
    x = drawn(1, 2, 3, 16)
    with torch.inference_mode():
        found = network._controlled(x, 0)
        given_ = torch.tensor([0.8, 0.2])
        w, b = network.semantic_embed_w[0], network.semantic_embed_b[0]
        scale = torch.log1p(torch.exp(w.weight @ given_ + w.bias))
        assert torch.allclose(found, x * scale + (b.weight @ given_ + b.bias), atol=1e-6)


def test_everything_trains_but_the_last_controller(network):
    swin = Swin(SMALL, semantic_weight=0.2)
    maps = swin.features(drawn(1, 3, 32, 32))
    torch.stack([each.square().sum() for each in maps]).sum().backward()
    without = {name for name, parameter in swin.named_parameters() if parameter.grad is None}
    last = {f"semantic_embed_{k}.3.{p}" for k in "wb" for p in ("weight", "bias")}
    assert without == last
    assert {n for n, p in swin.named_parameters() if not p.requires_grad} == last


def test_sizes_are_read_off_the_weights(network):
    assert SwinSizes.of(network.state_dict()) == SMALL
    assert SwinSizes.of({}) == SwinSizes()
