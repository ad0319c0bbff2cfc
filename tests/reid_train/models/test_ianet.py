"""IA blocks against the authors' recorded outputs and their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from reid_train.exchange.importers import import_checkpoint, load_model
from reid_train.models.ianet import IANet, InteractionAggregation, gaussian_weights
from reid_train.models.resnet import ResNet50
from tests.reid_train.models.test_resnet import recorded_images


@pytest.fixture
def block(golden_state):
    """The recorded block of 16 channels, in eval mode."""
    block = InteractionAggregation(16, alpha_x=2, alpha_y=4)
    state = golden_state("ianet_block.keys.json")
    block.load_state_dict({k: torch.as_tensor(v) for k, v in state.items()})
    return block.eval()


def test_gaussian_is_the_recorded_one(golden):
    expected = golden("ianet_res50.npz")["block_gauss"]
    np.testing.assert_allclose(gaussian_weights((8, 4), 2, 4), expected, atol=1e-7)


def test_gaussian_by_hand():
    # two cells side by side: weight exp(-1 / (2 * 0.5^2)) for the neighbour, before normalising
    near = math.exp(-2.0)
    expected = torch.tensor([[1.0, near], [near, 1.0]]) / (1 + near)
    torch.testing.assert_close(gaussian_weights((1, 2), 0.5, 9.0), expected)
    torch.testing.assert_close(gaussian_weights((2, 1), 9.0, 0.5), expected)


@pytest.mark.parametrize("size", [(3, 5), (16, 8), (24, 8)])
def test_gaussian_follows_its_definition(size):
    height, width = size
    ys, xs = np.divmod(np.arange(height * width), width)
    exponent = -((xs[:, None] - xs) ** 2) / (2 * 5.0**2) - (ys[:, None] - ys) ** 2 / (2 * 10.0**2)
    expected = np.exp(exponent) / np.exp(exponent).sum(1, keepdims=True)
    np.testing.assert_allclose(gaussian_weights(size, 5.0, 10.0), expected, rtol=1e-5)


def test_block_gives_the_recorded_output(block, golden):
    recorded = golden("ianet_res50.npz")
    with torch.no_grad():
        out = block(torch.from_numpy(recorded["block_in"]))
    np.testing.assert_allclose(out, recorded["block_out"], rtol=1e-5, atol=1e-5)


def test_block_spells_out_its_formulas(block):
    torch.manual_seed(0)
    x = torch.randn(1, 16, 3, 2)
    flat = x[0].flatten(1).double().numpy()  # C,hw

    def soft(matrix):
        powers = np.exp(matrix - matrix.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    near = gaussian_weights((3, 2), 2, 4).numpy()
    spatial = flat @ soft(soft(flat.T @ flat / 4.0) * near).T

    def norm(module, values):
        scale = module.weight / (module.running_var + module.eps).sqrt()
        return (scale[:, None] * (values - module.running_mean[:, None])) + module.bias[:, None]

    z = flat + norm(block.W1, torch.from_numpy(spatial)).detach().numpy()
    out = z + norm(block.W2, torch.from_numpy(soft(z @ z.T) @ z)).detach().numpy()
    with torch.no_grad():
        np.testing.assert_allclose(block(x)[0].flatten(1), out, rtol=1e-5, atol=1e-5)


def test_second_soft_max_nearly_averages_the_map(block, golden):
    similarity = block.similarity(torch.from_numpy(golden("ianet_res50.npz")["block_in"]))
    torch.testing.assert_close(similarity.sum(2), torch.ones(2, 32))
    # the range the authors' block has: 32 cells would each weigh 1/32 in a plain average
    assert round(32 * float(similarity.min()), 4) == 0.9992
    assert round(32 * float(similarity.max()), 4) == 1.0015


def test_new_block_is_the_identity_in_training_too():
    torch.manual_seed(0)
    block, x = InteractionAggregation(8, alpha_x=2, alpha_y=4), torch.randn(2, 8, 4, 4)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.W1.weight.grad is not None and block.W1.weight.grad.any()


def test_mixed_precision_stays_outside():
    torch.manual_seed(0)
    block, x = InteractionAggregation(8, alpha_x=2, alpha_y=4), torch.randn(2, 8, 4, 4)
    nn.init.ones_(block.W2.weight)
    plain = block.eval()(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(block(x), plain)


def test_ianet_gives_the_recorded_features(golden, golden_state, fill):
    expected = golden("ianet_res50.npz")
    state = {k: torch.as_tensor(v) for k, v in golden_state("ianet_res50.keys.json").items()}
    found = import_checkpoint(state, "ianet")
    parts = (found.model, found.heads["embedding"])
    assert sum(p.numel() for part in parts for p in part.parameters()) == 25_057_071
    images = recorded_images(fill)[: len(expected["features"])]
    with torch.no_grad():
        features = load_model(state, format="ianet")(images)
        off = {
            k: torch.zeros_like(v) if ".W1." in k or ".W2." in k else v for k, v in state.items()
        }
        without = load_model(off, format="ianet")(images)
    np.testing.assert_allclose(features, expected["features"], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(without, expected["features_ia_off"], rtol=1e-4, atol=2e-5)


def test_new_ianet_is_the_plain_network_at_any_size():
    torch.manual_seed(0)
    ianet = IANet(layers=(1, 1, 1, 1)).eval()
    plain = ResNet50(layers=(1, 1, 1, 1)).eval()
    missing = plain.load_state_dict(ianet.state_dict(), strict=False).unexpected_keys
    assert {key.split(".")[0] + key.split(".")[2] for key in missing} == {
        "layer2W1", "layer2W2", "layer3W1", "layer3W2",
    }  # fmt: skip
    for size in ((64, 32), (96, 64)):
        x = torch.randn(1, 3, *size)
        assert torch.equal(ianet(x)["embedding"], plain(x)["embedding"])
