"""CLIP's image encoders against the outputs CLIP-ReID's own code gave."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.terminal.errors import ReidpipeError
from reid_train.exchange.importers import import_checkpoint
from reid_train.models.clip.visual import (
    ClipResNet,
    ClipVit,
    load_tower,
    resize_positions,
    token_grid,
)


def _images(fill, names):
    pixels = np.stack([fill.image(str(name), (256, 128, 3)) for name in names])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def test_token_grids():
    assert token_grid((256, 128)) == (16, 8)
    assert token_grid((256, 128), stride=12) == (21, 10)
    assert token_grid((256, 256), stride=12) == (21, 21)


@pytest.mark.parametrize(
    ("name", "shape", "grid", "recorded"),
    [
        ("visual.positional_embedding", (197, 768), (16, 8), "posembed_vit_16x8"),
        ("visual.positional_embedding", (197, 768), (21, 10), "posembed_vit_21x10"),
        ("visual.attnpool.positional_embedding", (50, 2048), (16, 8), "posembed_rn50_16x8"),
    ],
)
def test_positions_are_resized_as_recorded(name, shape, grid, recorded, golden, fill):
    resized = resize_positions(torch.from_numpy(fill.fill(name, shape)), grid)
    np.testing.assert_allclose(resized[:, ::64], golden("clip_losses.npz")[recorded], atol=1e-6)


def test_positions_that_are_no_square_are_refused():
    with pytest.raises(ValueError, match="130 positions"):
        resize_positions(torch.zeros(130, 4), (16, 8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", ["vit_b16", "vit_b16_sie", "vit_b16_sie_olp"], ids=["plain", "sie", "sie+olp"]
)
def test_vit_gives_the_recorded_features(network, golden, golden_state, fill):
    expected = golden(f"clipreid_{network}.npz")
    state = golden_state(f"clipreid_{network}.keys.json")
    state = {key: torch.as_tensor(value) for key, value in state.items()}
    rows = len(expected["feature"])
    images = _images(fill, expected["image_names"])[:rows]
    camids = torch.as_tensor(expected["cam_labels"])[:rows] if "cam_labels" in expected else None
    model = import_checkpoint(state, "clip-reid").model.eval()
    assert model.input_size == (256, 128)
    with torch.no_grad():
        features = model.features(images, camids)
        without = model.features(images)["projected"]
        after = import_checkpoint(state, "clip-reid", neck="after").model.eval()(images, camids)
        trunk = model.trunk
        assert isinstance(trunk, ClipVit)
        tokens = trunk.tokens((images - model.mean) / model.std, camids).final
    np.testing.assert_allclose(features["embedding"], expected["feature"], atol=1e-4)
    np.testing.assert_allclose(features["last"], expected["block11_cls"], atol=2e-4)
    np.testing.assert_allclose(without, expected["stage1_image_feature"], atol=1e-4)
    np.testing.assert_allclose(after, expected["feature_after_bn"], atol=2e-4)
    np.testing.assert_allclose(tokens[:, ::16, ::16], expected["tokens_ln_post"], atol=1e-4)


@pytest.mark.slow
def test_resnet_gives_the_recorded_features(golden, golden_state, fill):
    expected = golden("clipreid_rn50.npz")
    state = golden_state("clipreid_rn50.keys.json")
    state = {key: torch.as_tensor(value) for key, value in state.items()}
    images = _images(fill, expected["image_names"])[: len(expected["feature"])]
    model = import_checkpoint(state, "clip-reid").model.eval()
    with torch.no_grad():
        features = model.features(images)
        trunk = model.trunk
        assert isinstance(trunk, ClipResNet)
        grid = trunk.tokens((images - model.mean) / model.std).final
    for name, recorded in (
        (features["embedding"], expected["feature"]),
        (features["last"][:, ::8], expected["x3_gap"]),
        (features["feature"][:, ::8], expected["x4_gap"]),
        (grid[:, ::256, ::4, ::4], expected["x4_grid"]),
        (features["projected"], expected["stage1_image_feature"]),
    ):
        # two images differ by 2 % only: compare far below that
        scale = np.abs(recorded).max()
        np.testing.assert_allclose(name, recorded, atol=2e-5 * scale)


def _small_vit(**options):
    torch.manual_seed(0)
    return ClipVit(
        input_size=(64, 32), patch=8, stride=8, width=16, layers=2, heads=2, output_dim=8, **options
    )


@pytest.mark.parametrize("rows", [1 + 8 * 4, 1 + 5 * 7])
def test_positions_of_this_very_grid_stay_and_of_another_are_told(rows):
    trunk = _small_vit()
    state = {name: value.clone() for name, value in trunk.image_encoder.state_dict().items()}
    state["positional_embedding"] = torch.randn(rows, 16)
    expected = state["positional_embedding"].clone()
    if rows == 33:
        load_tower(trunk.image_encoder, state, "positional_embedding", (8, 4), "a.pt")
        assert torch.equal(trunk.image_encoder.positional_embedding, expected)
    else:
        with pytest.raises(ReidpipeError, match=r"found 36 positions in a\.pt.*8x4 patches"):
            load_tower(trunk.image_encoder, state, "positional_embedding", (8, 4), "a.pt")


def test_vit_features_and_dims():
    trunk = _small_vit()
    features = trunk(torch.randn(3, 3, 64, 32))
    assert {k: v.shape[1] for k, v in features.items() if k != "levels"} == (trunk.feature_dims)
    tokens = trunk.tokens(torch.randn(3, 3, 64, 32))
    assert tokens.projected.shape == (3, 1 + 8 * 4, 8)
    torch.testing.assert_close(features["embedding"][:, 16:], features["projected"])


def test_side_information_acts_on_the_class_token_by_camera_and_view():
    trunk = _small_vit(cameras=3, views=2, sie_coefficient=2.0).eval()
    x = torch.randn(2, 3, 64, 32)
    camids, views = torch.tensor([2, 0]), torch.tensor([1, 0])
    plain, seen = trunk(x)["embedding"], trunk(x, camids, views)["embedding"]
    assert not torch.allclose(plain, seen)
    with torch.no_grad():
        trunk.image_encoder.class_embedding.add_(2.0 * trunk.cv_embed[2 * 2 + 1])
    torch.testing.assert_close(trunk(x)["embedding"][0], seen[0])
    assert not torch.allclose(trunk(x)["embedding"][1], seen[1])


def test_resnet_keeps_a_stride_of_16():
    torch.manual_seed(0)
    trunk = ClipResNet(input_size=(64, 32), layers=(1, 1, 1, 1), width=8, heads=4, output_dim=16)
    tokens = trunk.eval().tokens(torch.randn(2, 3, 64, 32))
    assert tokens.last.shape == (2, 128, 4, 2)
    assert tokens.final.shape == (2, 256, 4, 2)
    assert tokens.projected.shape == (2, 9, 16)


def test_positions_by_value_keep_their_place_and_change_nothing_else():
    sizes = {"input_size": (64, 32), "layers": (1, 1, 1, 1), "width": 8, "heads": 4}
    asking = ClipResNet(**sizes, output_dim=16).eval()
    value = ClipResNet(**sizes, output_dim=16, positions="value").eval()
    value.load_state_dict(asking.state_dict())
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    pool = value.image_encoder.attnpool
    with torch.no_grad():
        for name, feature in asking(images).items():
            if name != "levels":
                torch.testing.assert_close(value(images)[name], feature, atol=1e-5, rtol=1e-5)
        final = value.tokens(images).final
        rows = pool(final)
        cells = final.flatten(2).transpose(1, 2)
        by_hand = pool.c_proj(pool.v_proj(cells + pool.positional_embedding[1:]))
        torch.testing.assert_close(rows[:, 1:], by_hand, atol=1e-5, rtol=1e-5)
        # Another value in the last cell moves the pooled row and its own, no other
        final[:, :, -1, -1] += 1
        moved = (pool(final) - rows).abs().amax((0, 2)) > 1e-4
        assert moved.tolist() == [True, *[False] * (cells.shape[1] - 1), True]


def test_other_kinds_of_positions_are_refused():
    with pytest.raises(ReidpipeError, match="expected attention or value"):
        ClipResNet(input_size=(64, 32), positions="query")
