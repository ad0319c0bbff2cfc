"""Recipes of Simple-ReID and their IANet variants: what they train on and what they minimise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reid_train.losses.triplet import Triplet
from reid_train.models.heads import LinearClassifier
from reid_train.models.ianet import IANet
from reid_train.models.resnet import ResNet50
from reid_train.recipe.assembly import build_task
from reid_train.recipe.loading import list_recipes, load_recipe
from reid_train.recipe.schema import IdentityBatches
from reid_train.recipe.task import RecipeTask

SMALL = {"input.size": "[64, 32]", "model.options": "{layers: [1, 1, 1, 1]}"}
RECIPES = [name for name in list_recipes() if name.startswith(("resnet50-", "ianet-"))]
# rank-1 and mAP of Market-1501 and MSMT17 in the authors' README
PUBLISHED = {
    "resnet50-triplet": (0.945, 0.866, 0.789, 0.570),
    "resnet50-contrastive": (0.943, 0.864, 0.793, 0.567),
    "resnet50-cosface": (0.943, 0.862, 0.782, 0.552),
    "resnet50-circle": (0.947, 0.873, 0.797, 0.570),
    "resnet50-arcface": (0.942, 0.863, 0.782, 0.542),
}


def step(name) -> tuple[RecipeTask, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A small task of a recipe, a batch of four identities with two images, and its losses."""
    torch.manual_seed(0)
    task = build_task(load_recipe(name, SMALL), classes=5)
    task.begin_stage("image")
    batch = {
        "images": torch.randint(0, 256, (8, 3, 64, 32), dtype=torch.uint8),
        "labels": torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]),
    }
    return task, batch, task.train().training_forward(dict(batch))[0]


@pytest.mark.parametrize("name", RECIPES)
def test_every_parameter_but_no_other_learns_from_two_losses(name):
    task, _, losses = step(name)
    trunk = task.model.trunk
    assert isinstance(trunk, IANet if name.startswith("ianet") else ResNet50)
    assert isinstance(trunk, IANet) == name.startswith("ianet")
    assert [key.split("/")[1] for key in losses] == ["identity", "embedding"]
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in task.parameters())


def test_classifier_and_pair_loss_read_the_normalised_feature():
    task, batch, losses = step("resnet50-triplet")
    trunk, head = task.model.trunk, task.heads["identity"]
    assert isinstance(trunk, ResNet50) and isinstance(head, LinearClassifier)
    assert head.classifier.bias is not None and not head.classifier.bias.any()
    features = task.model.features(batch["images"].float() / 255)
    after = F.batch_norm(
        features["global"], None, None, trunk.bn.weight, trunk.bn.bias, training=True
    )
    by_hand = {
        "cross-entropy/identity": F.cross_entropy(head(after), batch["labels"]),
        "triplet/embedding": Triplet(margin=0.3, metric="cosine")(after, batch["labels"]),
    }
    torch.testing.assert_close(losses, by_hand)


@pytest.mark.parametrize("name", RECIPES)
def test_training_is_the_published_one(name):
    recipe = load_recipe(name)
    stage = recipe.stages[0]
    assert isinstance(stage.data, IdentityBatches)
    assert (stage.data.ids, stage.data.images_per_id, stage.epochs) == (16, 4, 60)
    assert (stage.optimiser.kind, stage.optimiser.lr) == ("adam", 3.5e-4)
    assert stage.optimiser.weight_decay == 5e-4 and recipe.test.flip
    augment = stage.data.augment
    assert (augment.zoom, augment.zoom_factor, augment.flip) == (0.5, 1.125, 0.5)
    assert (augment.erase, augment.erase_area, augment.erase_linear) == (0.5, (0.02, 0.4), True)
    assert augment.erase_fill == (0.4914, 0.4822, 0.4465)
    assert recipe.precision == "fp32" and recipe.input.size == (256, 128)


def test_rate_falls_when_epochs_20_and_40_begin():
    from reid_train.engine import SCHEDULES

    plain = load_recipe("resnet50-triplet").stages[0].schedule.model_dump()
    rate = SCHEDULES[plain.pop("kind")](**plain)
    rates = [rate(epoch, 0, 1, 60) for epoch in (0, 19, 20, 39, 40, 59)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("name", RECIPES)
def test_published_figures(name):
    figures = [(e.dataset, e.protocol, e.rank1, e.mAP) for e in load_recipe(name).expected]
    if name.startswith("ianet"):
        assert figures == [], "nobody published this combination"
    else:
        rank1, mean, msmt_rank1, msmt_mean = PUBLISHED[name]
        assert figures == [
            ("market1501", "standard", rank1, mean),
            ("msmt17", "standard", msmt_rank1, msmt_mean),
        ]
