"""OSNet files of torchreid: recorded features, their wrappings, what they are told from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.terminal.errors import ReidpipeError
from reid_train.exchange.formats.torchreid import _published
from reid_train.exchange.importers import import_checkpoint, load_model
from reid_train.models import TRUNKS


def published(name: str, classes: int = 0) -> dict[str, torch.Tensor]:
    """A file of random weights under torchreid's names."""
    torch.manual_seed(2)
    trunk = TRUNKS[f"osnet-{name}"](input_size=(256, 128))
    state = dict(_published(trunk, listed=name.startswith("ain")).state_dict())
    if classes:
        state["classifier.weight"] = torch.randn(classes, 512)
        state["classifier.bias"] = torch.randn(classes)
    return state


@pytest.mark.parametrize(
    ("network", "distance"),
    [("osnet_x0_25", "euclidean"), ("osnet_x1_0", "euclidean"), ("osnet_ain_x1_0", "cosine")],
)
def test_features_are_the_recorded_ones(network, distance, golden, golden_state, fill):
    expected = golden(f"{network}.npz")
    state = {k: torch.as_tensor(v) for k, v in golden_state(f"{network}.keys.json").items()}
    found = import_checkpoint({"state_dict": state}, "torchreid")
    model = found.model.eval()
    assert model.input_size == (256, 128) and model.distance == distance
    assert found.test_filter == "bilinear" and not found.flip
    pixels = torch.from_numpy(fill.image("person_a", (256, 128, 3)))
    images = pixels.permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        features = model(images).numpy()
        rows = model.trunk.map((images - model.mean) / model.std)[:, ::16].numpy()  # type: ignore[operator]
    for ours, recorded in ((features, expected["features"]), (rows, expected["map_rows"])):
        assert np.abs(ours - recorded).max() < 1e-4 * np.abs(recorded).max()
    weight = state["classifier.weight"]
    assert found.heads["embedding"].classifier.weight.equal(weight)  # type: ignore[union-attr]


def test_an_ibn_file_is_told_from_its_keys(golden_state):
    state = {k: torch.as_tensor(v) for k, v in golden_state("osnet_ibn_x1_0.keys.json").items()}
    found = import_checkpoint(state, "torchreid")
    assert found.spec["trunk"] == "osnet-ibn-x1.0" and found.model.distance == "euclidean"


@pytest.mark.parametrize("name", ["x0.5", "x0.75", "ain-x0.25", "ain-x0.5"])
def test_the_width_is_told_from_the_shapes(name):
    found = import_checkpoint(published(name), "torchreid")
    assert found.spec["trunk"] == f"osnet-{name}" and found.heads == {}
    assert ("distance" in found.spec) == (not name.startswith("ain"))


def test_files_as_the_training_script_saves_them(tmp_path):
    state = published("x0.25", classes=7)
    wrapped = {
        "state_dict": {f"module.{key}": value for key, value in state.items()},
        "epoch": 60,
        "rank1": np.float64(0.912),
        "optimizer": {"state": {}, "param_groups": []},
    }
    images = torch.rand(2, 3, 64, 32)
    extra = {"rank5": np.float32(0.97), "best": np.int64(3), "ok": np.bool_(True)}
    plain = load_model(state, format="torchreid", input_size=(64, 32))
    for number, content in enumerate((wrapped, {**wrapped, **extra})):
        file = tmp_path / f"model.pth.tar-{number}"
        torch.save(content, file)
        model = load_model(file, format="torchreid", input_size=(64, 32))
        assert torch.equal(model(images), plain(images))


def test_the_architecture_can_be_given():
    state = published("x0.25")
    for name in ("osnet_x0_25", "osnet-x0.25"):
        load_model(state, format="torchreid", architecture=name)
    with pytest.raises(ReidpipeError, match=r"found osnet-x0\.25 .* expected osnet-x1\.0"):
        load_model(state, format="torchreid", architecture="osnet_x1_0")
    with pytest.raises(ReidpipeError, match=r"did you mean 'osnet-x0\.75'"):
        load_model(state, format="torchreid", architecture="osnet_x0_76")
    assert load_model(state, format="torchreid", distance="cosine").distance == "cosine"
    with pytest.raises(ReidpipeError, match="did you mean 'cosine'"):
        load_model(state, format="torchreid", distance="cosin")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"layer1.0.conv1.weight": 1, "fc.weight": 1}, "a plain ResNet"),
        ({"base.cls_token": 1, "base.sie_embed": 1}, "TransReID, which no format reads"),
        ({"image_encoder.conv1.weight": 1}, "--from clip-reid"),
        ({"backbone.conv1.weight": 1}, "--from fast-reid"),
        ({"bignet.conv_1.0.weight": 1}, "--from col780"),
        ({"something.weight": 1}, "keys like 'something.weight'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_named(state, words):
    state = {key: torch.zeros(2) for key in state}
    with pytest.raises(ReidpipeError, match=words) as caught:
        load_model(state, format="torchreid")
    assert "\n" not in str(caught.value) and "conv1.conv.weight" in str(caught.value)


def test_damaged_files_name_the_key_and_other_widths_the_choice():
    state = published("x0.25")
    for key in ("conv2.0.conv2b.1.bn.weight", "conv4.1.gate.fc2.bias", "conv5.conv.weight"):
        with pytest.raises(ReidpipeError, match=key.replace(".", r"\.")):
            load_model({k: v for k, v in state.items() if k != key}, format="torchreid")
    state["conv1.conv.weight"] = torch.zeros(24, 3, 7, 7)
    with pytest.raises(ReidpipeError, match=r"24 channels .* osnet-x0\.25, osnet-x0\.5"):
        load_model(state, format="torchreid")
    ibn = published("ibn-x1.0")
    ibn["conv1.conv.weight"] = torch.zeros(16, 3, 7, 7)
    with pytest.raises(ReidpipeError, match="OSNet-IBN with 16 channels"):
        load_model(ibn, format="torchreid")
