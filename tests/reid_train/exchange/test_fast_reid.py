"""fast-reid's files: features its own network gave (c9bc3ce), layouts by age, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.terminal.errors import ReidpipeError
from reid_train.exchange.formats.fast_reid import _backbone
from reid_train.exchange.importers import import_checkpoint, load_model
from reid_train.models.strong_baseline import (
    GeneralisedMean,
    InstanceBatchNorm,
    NonLocal,
    StrongBaseline,
)

# Every 128th number of both images' features, p of GeM 2.5.
RECORDED = json.loads((Path(__file__).parent / "fast_reid.json").read_text())
KINDS = {
    "bot": {},
    "agw": {"non_local": (0, 2, 3, 0), "pooling": "gem-3"},
    "sbs-ibn": {"ibn": True, "non_local": (0, 2, 3, 0), "pooling": "gem"},
}


def layout(trunk: StrongBaseline, neck: str = "heads.bottleneck.0.") -> dict[str, torch.Tensor]:
    """The state dict of ``trunk`` as fast-reid names it."""
    state = {f"backbone.{key}": value for key, value in _backbone(trunk).state_dict().items()}
    state |= {f"{neck}{key}": value for key, value in trunk.neck.state_dict().items()}
    if trunk.gem is not None and dict(trunk.gem.named_parameters()):
        state["heads.pool_layer.p"] = trunk.gem.p
    return {key: value.detach() for key, value in state.items()}


def small(**options) -> StrongBaseline:
    torch.manual_seed(4)
    trunk = StrongBaseline(layers=(1, 2, 1, 1), **options).eval()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean = torch.rand(module.num_features) / 10
    return trunk


@pytest.mark.parametrize(
    "kind",
    ["sbs-ibn", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("bot", "agw"))],
)
def test_features_are_those_of_their_network(kind, fill):
    names = layout(StrongBaseline(**KINDS[kind]))
    state = {}
    for key, value in names.items():
        shape, dtype = tuple(value.shape), str(value.dtype).removeprefix("torch.")
        state[key] = torch.as_tensor(fill.fill(key, shape, dtype))
    if "heads.pool_layer.p" in state:
        state["heads.pool_layer.p"] = torch.full((1,), 2.5)
    state["heads.weight"] = torch.zeros(20, 2048)
    found = import_checkpoint({"model": state}, "fast-reid")
    model = found.model.eval()
    assert model.input_size == ((384, 128) if kind == "sbs-ibn" else (256, 128))
    assert model.distance == "cosine" and found.test_filter == "bicubic"
    size = (*model.input_size, 3)
    pixels = np.stack([fill.image(name, size) for name in ("person_a", "person_b")])
    with torch.no_grad():
        features = model(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    expected = np.array(RECORDED[kind])
    assert np.abs(features[:, ::128].numpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_files_of_the_first_releases():
    trunk = small(padded_stem=True)
    state = {
        **layout(trunk, neck="heads.bnneck."),
        "heads.classifier.weight": torch.rand(9, 2048),
        "pixel_mean": torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1),
        "pixel_std": torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1),
    }
    found = import_checkpoint(state, "fast-reid", input_size=(64, 32))
    assert found.spec["options"]["padded_stem"] and found.spec["mean"] == [0.485, 0.456, 0.406]
    x = torch.rand(2, 3, 64, 32)
    model = found.model.eval()
    expected = trunk((x - model.mean) / model.std)["embedding"]
    torch.testing.assert_close(model(x), expected)
    state["pixel_mean"] = torch.tensor([127.5, 127.5, 127.5])
    assert import_checkpoint(state, "fast-reid").spec["mean"] == [0.5] * 3
    # The max pool without padding sees other pixels.
    state = layout(trunk) | {"heads.weight": torch.rand(9, 2048)}
    later = import_checkpoint(state, "fast-reid", input_size=(64, 32))
    assert not torch.allclose(later.model.eval()(x), expected)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("b1_head.weight", "found MGN"),
        ("backbone.layer1.0.se.fc.0.weight", "squeeze"),
        ("backbone.conv1.0.weight", "ResNeSt"),
        ("backbone.cls_token", "a ViT"),
    ],
)
def test_other_networks_of_theirs_are_named(key, words):
    with pytest.raises(ReidpipeError, match=words):
        load_model(
            {"backbone.conv1.weight": torch.zeros(2), key: torch.zeros(2)}, format="fast-reid"
        )


def test_files_of_others_and_damaged_ones():
    with pytest.raises(ReidpipeError, match="with bottlenecks"):
        load_model({"backbone.conv1.weight": torch.zeros(2)}, format="fast-reid")
    with pytest.raises(ReidpipeError, match="a plain ResNet"):
        load_model({"layer1.0.conv1.weight": torch.zeros(2)}, format="fast-reid")
    state = layout(small())
    del state["backbone.layer2.1.bn2.running_var"]
    with pytest.raises(ReidpipeError, match=r"layer2\.1\.bn2\.running_var"):
        load_model(state, format="fast-reid")


def test_a_non_local_block_gathers_from_all_positions():
    torch.manual_seed(0)
    block = NonLocal(6, inner=2).eval()
    x = torch.randn(2, 6, 4, 3)
    torch.testing.assert_close(block(x), x)  # as it starts
    block.out[1].weight.data.fill_(1)  # type: ignore[operator]
    value, query, key = (m(x).flatten(2) for m in (block.value, block.query, block.key))
    weights = query.transpose(1, 2) @ key / 12  # N,positions,positions
    mixed = (weights @ value.transpose(1, 2)).transpose(1, 2).unflatten(2, (4, 3))
    torch.testing.assert_close(block(x), x + block.out(mixed))


def test_ibn_and_gem_by_hand():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 3)
    norm = InstanceBatchNorm(4).eval()
    half = x[:, :2]
    centred = half - half.mean((2, 3), keepdim=True)
    scaled = centred / (half.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x)[:, :2], scaled)
    torch.testing.assert_close(norm(x)[:, 2:], x[:, 2:] / (1 + 1e-5) ** 0.5)
    values = torch.tensor([1.0, 2.0, -3.0, 0.0]).view(1, 1, 2, 2)
    assert GeneralisedMean()(values).item() == pytest.approx((9 / 4) ** (1 / 3), rel=1e-5)
    assert list(GeneralisedMean(learnt=False).state_dict()) == []
    with pytest.raises(ReidpipeError, match="average, gem, gem-3"):
        StrongBaseline(layers=(1, 1, 1, 1), pooling="max")
