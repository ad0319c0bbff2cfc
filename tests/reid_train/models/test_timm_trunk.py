"""timm's models as trunks: features and maps, names, options, weights."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from torch import Tensor

from pipeline.plugins import Door
from pipeline.terminal.errors import ReidpipeError
from reid_train.models import TRUNKS
from reid_train.models.deployable import ReidModel, build_model
from reid_train.models.timm_trunk import TimmTrunk, check_name
from tests.conftest import PROJECT

SIZE = (128, 64)
# Length of the feature, then channels and sides of the maps, at 128x64.
SHAPES = {
    "resnet18": (512, [(64, 32, 16), (128, 16, 8), (256, 8, 4)]),
    "tf_efficientnet_lite0": (1280, [(24, 32, 16), (40, 16, 8), (112, 8, 4)]),
    "mobilenetv3_small_100": (1024, [(16, 32, 16), (24, 16, 8), (48, 8, 4)]),
    "vit_tiny_patch16_224": (192, [(192, 8, 4)]),
    "convnext_atto": (320, [(40, 32, 16), (80, 16, 8), (160, 8, 4)]),
}


def make(
    name: str, *, size: tuple[int, int] = SIZE, pretrained: str = "none", **options: Any
) -> ReidModel:
    spec = {"trunk": f"timm/{name}", "options": options, "input_size": list(size)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(
            {**spec, "mean": [0.5] * 3, "std": [0.25] * 3}, pretrained=pretrained
        ).eval()


def mistake(name: str, **given: Any) -> str:
    with pytest.raises(ReidpipeError) as caught:
        make(name, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def feature(model: ReidModel, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.features(images)["global"]


@pytest.mark.parametrize("name", SHAPES)
def test_features_and_maps_are_timms_own(name: str):
    model, (dim, maps) = make(name), SHAPES[name]
    network, images = model.trunk.network, torch.rand(2, 3, *SIZE)
    assert isinstance(network, torch.nn.Module)
    with torch.no_grad():
        found = model.features(images)
        own = network((images - 0.5) / 0.25)  # without a classifier timm's model ends at its pool
    assert found["global"].shape == found["embedding"].shape == (2, dim)
    assert model.trunk.feature_dims == {"global": dim, "embedding": dim}
    assert [tuple(level.shape[1:]) for level in found["levels"]] == maps
    assert model.trunk.level_dims == tuple(channels for channels, _, _ in maps)
    torch.testing.assert_close(found["global"], own)


def test_the_maps_come_from_the_pass_that_gives_the_feature():
    model, calls = make("resnet18"), []
    hook = model.trunk.network.layer1.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr, operator]
    feature(model, torch.rand(1, 3, *SIZE))
    hook.remove()
    assert len(calls) == 1


# Options, then the length of the feature, and the channels of the maps that stay.
BANDS = [
    ("tf_efficientnet_lite0", {"stride": 16, "stripes": 4, "dim": 32}, 32, (24, 40, 112)),
    ("tf_efficientnet_lite0", {"stripes": 2}, 640, (24, 40, 112)),
    ("resnet18", {"stride": 8}, 128, (64, 128)),
    ("vit_tiny_patch16_224", {"stripes": 4}, 768, (192,)),
]


@pytest.mark.parametrize(("name", "options", "dim", "channels"), BANDS)
def test_bands_are_means_of_the_rows_of_a_map(name, options, dim, channels):
    model, plain = make(name, **options), make(name)
    assert model.trunk.feature_dims == {"global": dim, "embedding": dim}
    assert model.trunk.level_dims == channels
    images, stripes = torch.rand(2, 3, *SIZE), options.get("stripes", 1)
    with torch.no_grad():
        network, x = plain.trunk.network, (images - 0.5) / 0.25
        norm = {"norm": True} if plain.trunk.one_stride else {}
        _, maps = network.forward_intermediates(x, **norm)  # type: ignore[operator, union-attr]
        stride = options.get("stride", SIZE[0] // maps[-1].shape[2])
        level = [m for m in maps if m.shape[2] == SIZE[0] // stride][-1]
        expected = level.unflatten(2, (stripes, -1)).mean((3, 4)).flatten(1)
        found = model.features(images)
        torch.testing.assert_close(found["global"], model.trunk.project(expected))  # type: ignore[operator]
    assert [m.shape[1] for m in found["levels"]] == list(channels)


@pytest.mark.parametrize(("name", "options"), [case[:2] for case in BANDS])
def test_what_the_bands_do_not_need_is_left_out(name: str, options: dict):
    trunk = make(name, **options).trunk.train()
    trunk(torch.rand(2, 3, *SIZE))["embedding"].square().sum().backward()
    silent = [k for k, p in trunk.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []
    count = sum(p.numel() for p in trunk.network.parameters())  # type: ignore[union-attr, operator]
    assert count < sum(p.numel() for p in timm.create_model(name).parameters())


def test_bands_that_a_network_cannot_give_are_refused():
    name = "tf_efficientnet_lite0"
    assert "strid" in mistake(name, stride=7) and "2, 4, 8, 16, 32" in mistake(name, stride=7)
    for stripes in (0, 9):
        assert "expected 1 to 8" in mistake(name, stride=16, stripes=stripes)
    assert "expected 1 or more" in mistake(name, dim=0)


def test_bands_of_a_network_without_maps_are_refused(monkeypatch: pytest.MonkeyPatch):
    class Plain(torch.nn.Module):
        pretrained_cfg: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3}

        def reset_classifier(self, classes: int) -> None: ...

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: Plain())
    assert "gives no maps" in mistake("resnet18", stripes=2)


def test_a_vits_map_are_its_last_tokens_after_the_norm():
    model = make("vit_tiny_patch16_224")
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        tokens = model.trunk.network.forward_features((images - 0.5) / 0.25)  # type: ignore[union-attr, operator]
        (level,) = model.features(images)["levels"]
    torch.testing.assert_close(level.flatten(2).transpose(1, 2), tokens[:, 1:])
    assert (model.trunk.stride, model.trunk.patch) == (16, 16)


def test_every_parameter_trains():
    trunk = make("tf_efficientnet_lite0").trunk.train()
    found = trunk(torch.rand(4, 3, *SIZE))
    (found["embedding"].square().sum() + sum(level.sum() for level in found["levels"])).backward()
    silent = [name for name, p in trunk.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet81", "did you mean 'resnet18'?"),
        ("resnet18.a1_in2k", "did you mean 'resnet18.a1_in1k'?"),
        ("hf-hub:timm/resnet18", "does not have"),
    ],
)
def test_wrong_names_are_told_before_anything_is_made(name: str, said: str, monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("made"))
    assert said in mistake(name, pretrained="imagenet")
    with pytest.raises(ReidpipeError):
        check_name(name)
    check_name("resnet18")
    check_name("resnet18.tv_in1k")


def test_options_are_timms_and_ours_are_refused():
    drops = [m for m in make("resnet18", drop_path_rate=0.2).modules() if hasattr(m, "drop_prob")]
    assert drops and drops[-1].drop_prob == pytest.approx(0.2)
    assert "'model.options.dropp_rate'" in mistake("resnet18", dropp_rate=0.1)
    for option in ("num_classes", "features_only", "checkpoint_path", "weights"):
        assert f"'model.options.{option}'" in mistake("resnet18", **{option: "x"})  # type: ignore[arg-type]
    assert "one vector per image" in mistake("resnet18", global_pool="")
    assert "options" in mistake("resnet18", drop_rate="much")


def test_a_size_that_a_model_cannot_take_is_refused():
    assert "input.size [128, 64]" in mistake("crossvit_tiny_240")
    assert "[299, 299]" in mistake("inception_v3", size=(32, 16))


def test_weights_from_a_file_leave_the_classifier_out(tmp_path: Path):
    own = timm.create_model("vit_tiny_patch16_224").eval()
    file = tmp_path / "vit.pth"
    torch.save(own.state_dict(), file)
    images = torch.rand(2, 3, 224, 224)
    model = make("vit_tiny_patch16_224", size=(224, 224), pretrained=str(file))
    own.reset_classifier(0)  # type: ignore[operator]
    with torch.no_grad():
        torch.testing.assert_close(feature(model, images), own((images - 0.5) / 0.25))
    # Another size: timm resamples the positions.
    assert feature(make("vit_tiny_patch16_224", pretrained=str(file)), images[..., :128, :64]).any()
    state = own.state_dict()
    torch.save({k: v for k, v in state.items() if k != "norm.bias"}, file)
    assert "norm.bias" in mistake("vit_tiny_patch16_224", pretrained=str(file))
    assert "of another network" in mistake("resnet18", pretrained=str(file))


def test_names_of_weights_do_not_depend_on_where_they_came_from(tmp_path: Path):
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet18").state_dict(), file)
    first, second = make("resnet18"), make("resnet18", pretrained=str(file))
    assert list(first.state_dict()) == list(second.state_dict())


def test_imagenet_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # it would try again and again
    line = mistake("resnet18", pretrained="imagenet")
    assert "timm/resnet18.a1_in1k" in line and "--pretrained FILE" in line and "none" in line
    assert "no weights" in mistake("test_vit4", pretrained="imagenet")
    assert "--pretrained imagenet" in mistake("resnet18", pretrained="openai")


def test_other_colours_than_the_weights_have_seen_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, pretrained, **k: create(*a, **k))
    with caplog.at_level(logging.WARNING, "reid_train.models.deployable"):
        make("resnet18", pretrained="imagenet")
    (record,) = caplog.records
    assert "0.485" in record.message and "[0.5, 0.5, 0.5]" in record.message


def test_a_family_of_names_is_known_without_an_import():
    lines = (
        "import sys", "from reid_train.models import TRUNKS", "assert 'timm/resnet18' in TRUNKS",
        "TRUNKS.check('timm/no-such', 'model.trunk')", "assert 'timm/' not in TRUNKS",
        "assert 'timm' not in sys.modules and 'torch' not in sys.modules",
    )  # fmt: skip
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=PROJECT, check=True)
    with pytest.raises(ReidpipeError, match=r"expected one of .*timm/NAME"):
        TRUNKS.check("tim/resnet18", "model.trunk")


def test_a_door_makes_what_its_family_makes_of_a_name():
    place = "reid_train.models.timm_trunk:timm_trunk"
    door = Door("trunk", {}, families={"timm/": place})
    trunk = door["timm/resnet18"](input_size=SIZE)
    assert isinstance(trunk, TimmTrunk) and list(door) == []
    assert door.owns("timm/resnet18") and not door.owns("resnet18")
    with pytest.raises(KeyError):
        door["resnet18"]
