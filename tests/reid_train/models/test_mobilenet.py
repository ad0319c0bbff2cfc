"""MobileNetV2 x0.25: strides and widths, published layouts of its weights."""

from __future__ import annotations

import pytest
import torch

from pipeline.terminal.errors import ReidpipeError
from reid_train.models.mobilenet import MobileNetV2Quarter


@pytest.fixture
def trunk():
    torch.manual_seed(0)
    return MobileNetV2Quarter().eval()


def _published(trunk):
    """``trunk`` as d-li14's file lays it out: features.0.0, features.N.conv.M, conv.0, conv.1,
    with the classifier.
    """
    flat = {}
    for key, value in trunk.state_dict().items():
        parts = key.split(".")
        if parts[0] != "features":
            continue
        stage, rest = int(parts[1]), parts[2:]
        if stage == 18:
            flat[".".join(["conv", *rest])] = value
        elif stage == 0:
            flat[key] = value
        else:
            rest = rest[1:]  # conv
            # torchvision nests convolution, norm and ReLU6; d-li14 counts them in a row
            groups = 1 if stage == 1 else 2
            number = int(rest[0])
            if number < groups:
                number, rest = 3 * number + int(rest[1]), rest[2:]
            else:
                number, rest = 3 * groups + number - groups, rest[1:]
            flat[".".join(["features", str(stage), "conv", str(number), *rest])] = value
    return {**flat, "classifier.weight": torch.zeros(1000, 1280), "classifier.bias": torch.zeros(1)}


def test_maps_have_strides_4_8_16(trunk):
    x = torch.randn(2, 3, 256, 128)
    maps = trunk.maps(x)
    assert [tuple(m.shape) for m in maps] == [(2, 8, 64, 32), (2, 8, 32, 16), (2, 24, 16, 8)]
    assert tuple(m.shape[1] for m in maps) == trunk.level_dims
    features = trunk(x)
    for level, given in zip(features.pop("levels"), maps, strict=True):
        assert torch.equal(level, given)
    assert {k: tuple(v.shape) for k, v in features.items()} == {
        "global": (2, 1280),
        "embedding": (2, 1280),
    }
    torch.testing.assert_close(features["global"], trunk.features(x).mean((2, 3)))
    torch.testing.assert_close(features["embedding"], trunk.neck(features["global"]))


def test_size_is_the_published_one(trunk):
    # d-li14 states 1.519 M with the classifier of 1000 classes
    backbone = sum(p.numel() for p in trunk.features.parameters())
    assert round((backbone + 1281 * 1000) / 1e6, 3) == 1.519
    assert not trunk.neck.bias.requires_grad


def test_published_weights_load_in_either_layout(trunk, tmp_path):
    x = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        expected = trunk(x)["global"]
        file = tmp_path / "student.pth"
        torchvision = {k: v for k, v in trunk.state_dict().items() if k.startswith("features.")}
        for state in (_published(trunk), torchvision):
            torch.save(state, file)
            torch.manual_seed(7)
            loaded = MobileNetV2Quarter(pretrained=str(file)).eval()
            torch.testing.assert_close(loaded(x)["global"], expected)


def test_another_network_is_refused(trunk, tmp_path):
    file = tmp_path / "student.pth"
    short = _published(trunk)
    short.pop("features.17.conv.7.bias")
    torch.save(short, file)
    with pytest.raises(ReidpipeError, match="entries"):
        MobileNetV2Quarter(pretrained=str(file))
    wide = {**_published(trunk), "features.0.0.weight": torch.zeros(16, 3, 3, 3)}
    torch.save(wide, file)
    with pytest.raises(ReidpipeError, match=r"features\.0\.0\.weight"):
        MobileNetV2Quarter(pretrained=str(file))
