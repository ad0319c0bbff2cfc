"""OSNet: sizes as published, where instance norm stands, and that it trains."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.terminal.errors import ReidpipeError
from reid_train.models import TRUNKS
from reid_train.models.deployable import build_model
from reid_train.models.osnet import AggregationGate, ConvNorm, OmniScaleBlock, OSNet
from reid_train.recipe.assembly import build_task, model_spec
from reid_train.recipe.loading import load_recipe

SETTINGS = {
    "model.trunk": "osnet-x0.25",
    "model.options": "{}",
    "input.size": "[64,32]",
    "test.distance": "euclidean",
}


@pytest.mark.parametrize(
    ("name", "millions"),
    # the model zoo's column "# Param (10^6)"
    [("x0.25", 0.2), ("x0.5", 0.6), ("x0.75", 1.3), ("x1.0", 2.2), ("ibn-x1.0", 2.2)]
    + [("ain-x1.0", 2.2)],
)
def test_parameters_are_those_of_the_zoo(name, millions):
    trunk = TRUNKS[f"osnet-{name}"](input_size=(256, 128))
    assert sum(p.numel() for p in trunk.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_features_and_stride():
    torch.manual_seed(0)
    trunk = OSNet(width=0.25).eval()
    x = torch.randn(2, 3, 96, 32)
    assert trunk.map(x).shape == (2, 128, 6, 2)
    features = trunk(x)
    assert {name: value.shape[1] for name, value in features.items()} == trunk.feature_dims
    torch.testing.assert_close(features["embedding"], trunk.fc(trunk.map(x).mean((2, 3))))
    assert (features["embedding"] >= 0).all()  # after a ReLU


def test_one_gate_weighs_the_channels_of_all_streams():
    torch.manual_seed(0)
    block = OmniScaleBlock(64, 64).eval()
    x = torch.randn(2, 64, 8, 4)
    reduced = block.reduce(x)
    streams = [block.gate(stream(reduced)) for stream in block.streams]
    torch.testing.assert_close(block(x), (block.expand(sum(streams)) + x).relu())
    # of stream t, t times 3x3: t pixels on each side
    for depth, stream in enumerate(block.streams, 1):
        point = torch.randn(1, 16, 15, 15, requires_grad=True)
        stream(point)[0, :, 7, 7].sum().backward()
        assert point.grad is not None
        seen = point.grad.abs().sum((0, 1)).nonzero()
        assert seen.min() >= 7 - depth and seen.max() <= 7 + depth


def test_a_gate_is_one_number_for_a_channel():
    gate = AggregationGate(16).eval()
    x = torch.rand(1, 16, 5, 3) + 0.5
    weights = gate(x) / x
    assert (weights.amax((2, 3)) - weights.amin((2, 3))).abs().max() < 1e-6
    assert (weights > 0).all() and (weights < 1).all()


def test_instance_norms_stand_where_the_papers_have_them():
    def places(norm):
        trunk = OSNet(width=0.25, norm=norm)
        stem = trunk.stem
        assert isinstance(stem, ConvNorm)
        found = ["stem"] if isinstance(stem.norm, nn.InstanceNorm2d) else []
        for number, stage in enumerate(trunk.stages, 2):
            for place, block in enumerate(stage.children()):
                for name in ("inside", "after"):
                    if isinstance(getattr(block, name), nn.InstanceNorm2d):
                        found.append(f"{number}.{place} {name}")
        return found

    assert places("batch") == []
    assert places("ibn") == ["stem", "2.0 after", "2.1 after"]
    inside = [f"{place} inside" for place in ("2.0", "2.1", "3.1", "4.0")]
    assert places("ain") == ["stem", *inside]


def test_what_is_no_osnet_is_refused():
    with pytest.raises(ReidpipeError, match="batch, ibn, ain"):
        OSNet(norm="instance")
    with pytest.raises(ReidpipeError, match="at least 0.25"):
        OSNet(width=0.1)


def test_a_recipe_trains_it_and_says_its_distance():
    recipe = load_recipe("baseline-tiny", SETTINGS)
    assert model_spec(recipe)["distance"] == "euclidean"
    task = build_task(recipe, classes=4)
    assert task.model.distance == "euclidean"
    torch.manual_seed(0)
    images, labels = torch.rand(4, 3, 64, 32), torch.arange(4)
    head = nn.Linear(512, 4)
    parameters = [*task.model.parameters(), *head.parameters()]
    task.train()

    def loss():
        logits = head(task.model.features(images)["embedding"])
        return nn.functional.cross_entropy(logits, labels)

    before = loss()
    gradients = torch.autograd.grad(before, parameters)
    assert all(gradient.abs().max() > 0 for gradient in gradients[-4:])
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= 0.01 * gradient
        assert loss() < before


def test_the_usual_distance_is_in_no_description():
    recipe = load_recipe("baseline-tiny")
    assert "distance" not in model_spec(recipe) and "distance" not in recipe.keyed().get("test", {})
    with pytest.raises(ReidpipeError, match="did you mean 'euclidean'"):
        build_model({**model_spec(recipe), "distance": "euclidian"})
