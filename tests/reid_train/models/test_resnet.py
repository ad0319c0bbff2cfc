"""ResNet-50 against Simple-ReID's recorded outputs; ImageNet weights from files."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from pipeline.terminal.errors import ReidpipeError
from reid_train.exchange.importers import load_model
from reid_train.models import imagenet
from reid_train.models.deployable import build_model
from reid_train.models.resnet import ResNet50

SPEC = {
    "trunk": "resnet50",
    "options": {"layers": [1, 1, 1, 1]},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "input_size": [64, 32],
}


def recorded_images(fill):
    pixels = np.stack([fill.image(name, (256, 128, 3)) for name in ("person_a", "person_b")])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def tower():
    """A small torchvision network and its state dict, classifier included."""
    torch.manual_seed(3)
    network = ResNet(Bottleneck, [1, 1, 1, 1])
    return network.state_dict()


def test_simple_reid_gives_the_recorded_features(golden, golden_state, fill):
    expected = golden("simplereid_res50.npz")
    state = {k: torch.as_tensor(v) for k, v in golden_state("simplereid_res50.keys.json").items()}
    model = load_model({"state_dict": state, "epoch": 59}, format="simple-reid")
    assert sum(p.numel() for p in model.parameters()) == 23_512_128
    rows = len(expected["features"])
    images = recorded_images(fill)[:rows]
    with torch.no_grad():
        for recorded, pixels in (("features", images), ("features_flip", images.flip(3))):
            np.testing.assert_allclose(model(pixels), expected[recorded], rtol=1e-4, atol=2e-5)


def test_last_stage_keeps_a_stride_of_16():
    torch.manual_seed(0)
    trunk = ResNet50(layers=(1, 1, 1, 1)).eval()
    x = torch.randn(2, 3, 96, 32)
    assert trunk.map(x).shape == (2, 2048, 6, 2)
    features = trunk(x)
    assert {k: v.shape[1] for k, v in features.items()} == trunk.feature_dims
    torch.testing.assert_close(features["embedding"], trunk.bn(trunk.map(x).mean((2, 3))))


def test_norm_trains_scale_and_shift_and_starts_as_published():
    torch.manual_seed(0)
    bn = ResNet50(layers=(1, 1, 1, 1)).bn
    assert bn.weight.requires_grad and bn.bias.requires_grad and not bn.bias.any()
    scale = bn.weight.detach()
    assert abs(float(scale.mean()) - 1) < 2e-3 and abs(float(scale.std()) - 0.02) < 2e-3


def test_imagenet_weights_from_a_file(tower, tmp_path):
    torch.save(tower, tmp_path / "mine.pth")
    model = build_model(SPEC, pretrained=str(tmp_path / "mine.pth"))
    trunk = model.trunk
    assert isinstance(trunk, ResNet50)
    for name in ("conv1.weight", "layer4.0.bn3.running_var"):
        assert torch.equal(trunk.state_dict()[name], tower[name])
    del tower["layer3.0.conv2.weight"]
    torch.save(tower, tmp_path / "mine.pth")
    with pytest.raises(ReidpipeError, match=r"layer3\.0\.conv2\.weight"):
        build_model(SPEC, pretrained=str(tmp_path / "mine.pth"))


def test_published_imagenet_weights_are_found_and_checked(tower, tmp_path, monkeypatch):
    torch.save(tower, tmp_path / "resnet50-test.pth")
    digest = hashlib.sha256((tmp_path / "resnet50-test.pth").read_bytes()).hexdigest()
    url = "https://example.org/models/resnet50-test.pth"
    for known in (digest, digest[:8]):
        published = imagenet.Published(url, known, "fc.")
        state = imagenet.imagenet_state("imagenet", published, weights=tmp_path)
        assert "fc.weight" not in state and torch.equal(
            state["conv1.weight"], tower["conv1.weight"]
        )
    monkeypatch.setenv("REIDPIPE_WEIGHTS", str(tmp_path))
    imagenet.imagenet_state("imagenet", published)
    other = imagenet.Published(url, "0" * 8, "fc.")
    with pytest.raises(ReidpipeError, match="sha256"):
        imagenet.imagenet_state("imagenet", other)


def test_absent_imagenet_weights_are_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("REIDPIPE_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ReidpipeError, match=r"resnet50-0676ba61\.pth") as caught:
        build_model(SPEC, pretrained="imagenet")
    assert "\n" not in str(caught.value) and "--pretrained none" in str(caught.value)


@pytest.mark.parametrize(
    ("trunk", "pretrained", "cure"),
    [
        ("resnet50", "openai", "--pretrained imagenet"),
        ("clip-rn50", "imagenet", "--pretrained openai"),
        ("tiny", "imagenet", "--pretrained none"),
    ],
)
def test_weights_of_another_kind_are_refused(trunk, pretrained, cure):
    with pytest.raises(ReidpipeError, match=cure):
        build_model({**SPEC, "trunk": trunk, "options": {}}, pretrained=pretrained)


def test_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    trunk = ResNet50(layers=(1, 1, 1, 1))
    head = nn.Linear(2048, 3)
    head(trunk(torch.randn(4, 3, 64, 32))["embedding"]).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in trunk.parameters())
