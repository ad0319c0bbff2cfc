"""The COL780 networks against the outputs their authors' code gave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from reid_train.models import TRUNKS
from reid_train.models.bignet import BigNet, Residual, SliceNet1, SliceNet2
from reid_train.models.deployable import ReidModel
from reid_train.models.heads import CosineSoftmax, WeightNormLinear

MEAN, STD = (0.4726, 0.4468, 0.4811), (0.2765, 0.2747, 0.2764)
LAYERS = ("conv_2", "pool_3", "residual_4", "residual_6", "residual_8", "residual_9")
NETWORKS = ("bignet", "slicenet1", "slicenet1_wn", "slicenet2", "slicenet2_wn")


def _images(fill, names):
    pixels = np.stack([fill.image(name, (128, 48, 3)) for name in names])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def _filled(network, golden_state):
    """Trunk and classifier with the recorded weights; strict, so the key names are checked too."""
    state = {k: torch.as_tensor(v) for k, v in golden_state(f"col780_{network}.keys.json").items()}
    if network.endswith("_wn"):
        head: nn.Module = WeightNormLinear(dim=128, classes=62)
        names = {"weight_g": "cosine_layer.weight_g", "weight_v": "cosine_layer.weight_v"}
    else:
        head = CosineSoftmax(dim=128, classes=62)
        names = {"cosine_weights": "cosine_weights", "k": "k"}
    head.load_state_dict({ours: state.pop(theirs) for ours, theirs in names.items()})
    trunk = TRUNKS[network.removesuffix("_wn")]()
    trunk.load_state_dict(state)
    return trunk.eval(), head.eval()


@pytest.mark.parametrize("network", NETWORKS)
def test_network_gives_the_recorded_outputs(network, golden, golden_state, fill):
    expected = golden(f"col780_{network}.npz")
    trunk, head = _filled(network, golden_state)
    seen: dict[str, torch.Tensor] = {}

    def record(name):
        def hook(_module, _inputs, output):
            # SliceNet1 runs the trunk once per strip; the recorded one is the first
            seen.setdefault(name, output.detach())

        return hook

    prefix = "bignet." if network.startswith("slicenet") else ""
    for name in LAYERS:
        trunk.get_submodule(prefix + name).register_forward_hook(record(name))
    model = ReidModel(trunk, mean=MEAN, std=STD, input_size=(128, 48)).eval()
    with torch.no_grad():
        features = model(_images(fill, ("person_a", "person_b")))
        logits = head(features)
    rows = len(expected["features"])
    np.testing.assert_allclose(features[:rows], expected["features"], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(logits[:rows], expected["logits"], rtol=1e-4, atol=2e-5)
    for name in LAYERS:
        assert list(seen[name].shape) == expected[f"act_{name}_shape"].tolist()
        corner = seen[name][: len(expected[f"act_{name}_corner"]), :4, -3:, -3:]
        np.testing.assert_allclose(corner, expected[f"act_{name}_corner"], rtol=1e-4, atol=2e-5)
        moments = (float(seen[name].mean()), float(seen[name].std()))
        np.testing.assert_allclose(moments, expected[f"act_{name}_mean_std"], rtol=1e-3, atol=1e-5)
    if "logits_k10" in expected:
        assert isinstance(head, CosineSoftmax)
        head.k.data.fill_(10.0)
        with torch.no_grad():
            at_ten = head(features)
        np.testing.assert_allclose(at_ten[:rows], expected["logits_k10"], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("trunk", "head", "size"),
    [
        (BigNet, CosineSoftmax, 2_286_305),
        (SliceNet1, CosineSoftmax, 811_457),
        (SliceNet2, CosineSoftmax, 811_457),
        (SliceNet1, WeightNormLinear, 811_518),
        (SliceNet2, WeightNormLinear, 811_518),
    ],
)
def test_parameter_counts_are_the_published_ones(trunk, head, size):
    parts = (trunk(), head(dim=128, classes=62))
    assert sum(p.numel() for part in parts for p in part.parameters()) == size


@pytest.mark.parametrize(("trunk", "norm"), [(BigNet, 1.0), (SliceNet1, 2.0), (SliceNet2, 1.0)])
def test_feature_norms(trunk, norm):
    embedding = trunk().eval()(torch.randn(3, 3, 128, 48))["embedding"]
    assert embedding.shape == (3, trunk().feature_dims["embedding"])
    torch.testing.assert_close(embedding.norm(dim=1), torch.full((3,), norm))


def test_residual_passes_the_raw_input_through():
    block = Residual(4, 4).eval()
    nn.init.zeros_(block.conv_2.weight)
    assert block.conv_2.bias is not None
    nn.init.zeros_(block.conv_2.bias)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_strips_see_batch_norm_one_at_a_time():
    net = SliceNet2(dropout=0.0).train()
    net(torch.randn(4, 3, 128, 48))
    assert int(net.get_buffer("dense_10.3.num_batches_tracked")) == 4
    assert int(net.get_buffer("bignet.conv_1.1.num_batches_tracked")) == 1


@pytest.mark.parametrize("trunk", [BigNet, SliceNet1, SliceNet2])
def test_size_that_does_not_divide_is_refused(trunk):
    with pytest.raises(ValueError, match="does not divide"):
        trunk(input_size=(130, 48))


def test_model_refuses_images_of_another_size():
    model = ReidModel(BigNet(), mean=MEAN, std=STD, input_size=(128, 48))
    with pytest.raises(ValueError, match=r"\(2, 3, 48, 128\).*N,3,128,48"):
        model(torch.rand(2, 3, 48, 128))


def test_model_normalises_inside():
    class Echo(nn.Module):
        def forward(self, x, camids=None, views=None):
            return {"embedding": x.mean((2, 3))}

    model = ReidModel(Echo(), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0), input_size=(2, 2))
    torch.testing.assert_close(model(torch.ones(1, 3, 2, 2)), torch.tensor([[1.0, 3.0, 0.5]]))
