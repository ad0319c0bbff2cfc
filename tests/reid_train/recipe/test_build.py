"""A recipe becomes a network, losses and stages."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from pipeline.terminal.errors import ReidpipeError
from reid_train.data.dataset import ReidBatches
from reid_train.data.sampler import IdentitySampler, ShuffledSampler
from reid_train.engine.schedules import OneCycle
from reid_train.losses import LOSSES
from reid_train.models import HEADS
from reid_train.recipe.assembly import build_task, parameters
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.making import make
from reid_train.recipe.stages import build_stages, training_set
from tests.reid_train.people import people

SMALL = {"stages.0.data.ids": "4", "stages.0.data.images_per_id": "2"}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    return people(tmp_path_factory.mktemp("people"), size=(128, 64))


def tiny(**overrides):
    return load_recipe("baseline-tiny", {**SMALL, **overrides})


def test_losses_are_the_recipe_s_on_the_recipe_s_features(crowd):
    images, rows, _ = crowd
    recipe = tiny(**{"stages.0.losses.1.weight": "0.5"})
    data = training_set(recipe, images, rows)
    task = build_task(recipe, classes=len(data.pids))
    (stage,) = build_stages(recipe, data, seed=0)
    batch = next(stage.batches.epoch(0, 0, 1))
    task.begin_stage("image")
    task.eval()
    losses, report = task.training_forward(batch)
    features = task.model.features(task.pixels(batch))
    logits = task.heads["identity"](features["embedding"])
    identity = LOSSES["cross-entropy"](label_smoothing=0.1)(logits, batch["labels"])
    triplet = LOSSES["triplet"](margin=0.3)(features["global"], batch["labels"])
    assert losses.keys() == {"cross-entropy/identity", "triplet/global"}
    torch.testing.assert_close(losses["cross-entropy/identity"], identity)
    torch.testing.assert_close(losses["triplet/global"], 0.5 * triplet)
    hits = (logits.argmax(1) == batch["labels"]).float().mean()
    assert report == {"accuracy/identity": hits}


def test_two_losses_of_one_kind_on_one_feature_both_train(crowd):
    images, rows, _ = crowd
    listed = (
        "[{loss: triplet, on: global}, {loss: triplet, on: global, weight: 0.5, "
        "options: {margin: 0.7}}]"
    )
    recipe = tiny(**{"stages.0.losses": listed})
    data = training_set(recipe, images, rows)
    task = build_task(recipe, classes=len(data.pids))
    batch = next(build_stages(recipe, data, seed=0)[0].batches.epoch(0, 0, 1))
    task.begin_stage("image")
    task.eval()
    losses, _ = task.training_forward(batch)
    features = task.model.features(task.pixels(batch))["global"]
    soft = LOSSES["triplet"](margin=0.7)(features, batch["labels"])
    assert list(losses) == ["triplet/global", "triplet/global#2"]
    torch.testing.assert_close(losses["triplet/global#2"], 0.5 * soft)


def source_of(stage) -> ReidBatches:
    assert isinstance(stage.batches, ReidBatches)
    return stage.batches


def test_stages_follow_the_recipe(crowd):
    images, rows, _ = crowd
    recipe = tiny(**{"stages.0.accumulate": "2", "stages.0.ema": "0.9", "stages.0.clip": "5"})
    (stage,) = build_stages(recipe, training_set(recipe, images, rows), seed=0)
    assert isinstance(source_of(stage).sampler, IdentitySampler)
    assert isinstance(stage.schedule, OneCycle)
    assert (stage.accumulate, stage.ema, stage.clip, stage.epochs) == (2, 0.9, 5, 18)
    assert stage.optimiser.kind == "adamw" and stage.optimiser.decay_matrices_only
    augmentation = source_of(stage).augmentation
    assert (augmentation.flip, augmentation.pad) == (0.5, 5)


@pytest.mark.parametrize(
    ("name", "count"),
    [("bignet", 2_286_305), ("slicenet1", 811_457), ("slicenet2", 811_457)],
)
def test_the_published_networks_have_their_published_sizes(name, count):
    """With the classifier of 62 identities, as the authors count."""
    task = build_task(load_recipe(name), classes=62)
    assert parameters(task) == count


def test_flipped_copies_reach_the_sampler(tmp_path):
    images, rows, _ = people(tmp_path, size=(128, 48))
    recipe = load_recipe("slicenet1")
    data = training_set(recipe, images, rows)
    (stage,) = build_stages(recipe, data, seed=0)
    assert isinstance(source_of(stage).sampler, ShuffledSampler)
    assert len(data) == 60 and len(stage.batches) == 3


def test_initial_weights_depend_on_the_seed_alone():
    recipe = tiny()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    a, b, c = cast("list[Any]", [build_task(recipe, classes=3, seed=seed) for seed in (0, 0, 1)])
    assert torch.equal(before, torch.random.get_rng_state())
    same = [torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(
        a.heads["identity"].classifier.weight, c.heads["identity"].classifier.weight
    )


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("model.trunk", "tny", "did you mean 'tiny'"),
        ("model.options.dimm", "3", r"model\.options\.dimm"),
        ("model.heads.identity.kind", "linaer", "did you mean 'linear'"),
        ("model.heads.identity.on", "golbal", "did you mean 'global'"),
        ("model.heads.identity.options.bais", "true", "did you mean 'bias'"),
        ("model.heads.global", "{kind: linear, on: global}", "named like a feature"),
        ("stages.0.losses.0.loss", "cross_entropy", "did you mean 'cross-entropy'"),
        ("stages.0.losses.0.on", "identty", "did you mean 'identity'"),
        ("stages.0.losses.0.options.label_smothing", "1", "did you mean 'label_smoothing'"),
        ("stages.0.losses.0.options.label_smoothing", "3", "label_smoothing is 3"),
        ("model.heads.identity.options.classes", "5", "'classes' .* follows from the rest"),
        ("model.heads.identity.options.dim", "5", "'dim' .* follows from the rest"),
    ],
)
def test_names_that_do_not_exist(path, text, message):
    with pytest.raises(ReidpipeError, match=message) as error:
        build_task(tiny(**{path: text}), classes=3)
    assert "\n" not in str(error.value)


def test_what_nothing_says_must_be_an_option():
    given = {"channels": [8], "grid": (4, 2)}
    with pytest.raises(ReidpipeError, match=r"no option 'dim' for model\.heads\.x.*dim: VALUE"):
        make(HEADS, "conv-fusion", {}, "model.heads.x", given)
    assert make(HEADS, "conv-fusion", {"dim": 3}, "model.heads.x", given).grid == (4, 2)


def test_pretrained_weights_are_for_trunks_that_have_some():
    with pytest.raises(ReidpipeError, match="trunk 'tiny'.*--pretrained none"):
        build_task(tiny(), classes=3, pretrained="openai")


def test_images_of_another_size_are_refused(crowd):
    images, rows, _ = crowd
    with pytest.raises(ReidpipeError, match=r"\(128, 64\); expected \(64, 32\)"):
        training_set(tiny(**{"input.size": "[64, 32]"}), images, rows)
