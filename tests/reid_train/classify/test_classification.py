"""Prompt learning as data and as a task: views, schedule, batches, recipes, counts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from pipeline.terminal.errors import ReidpipeError
from reid_train.classify.classifier import count_learner, load_prompt_classifier
from reid_train.classify.recipe import SPLITS, from_plain, list_learners, load_learner
from reid_train.classify.task import ClassificationTask, ShotBatches, features_of, images_of
from reid_train.classify.work import counts
from reid_train.data.views import RandomView, centre_crop, read_views
from reid_train.engine.loop import train
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime
from reid_train.engine.schedules import HeldCosine
from reid_train.engine.task import Stage
from tests.reid_train.models.small_clip import NAMES, pictures, small_state
from tests.trees import picture


def noise(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (100, 64), (64, 101), (33, 97), (231, 229)])
def test_the_test_view_is_torchvisions(size: tuple[int, int]):
    image = noise(*size)
    reference = Compose([Resize(64, interpolation=InterpolationMode.BICUBIC), CenterCrop(64)])
    assert np.array_equal(centre_crop(image, (64, 64)), np.asarray(reference(image)))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_random_crops_lie_inside(height: int, width: int, seed: int):
    view = RandomView((0.08, 1.0), 0.5, "centre-crop")
    top, left, h, w = view.box(height, width, np.random.default_rng(seed))
    assert 0 <= top <= height - h and 0 <= left <= width - w and h > 0 and w > 0


def test_random_crops_keep_the_share_and_shape_they_were_asked_for():
    view, generator = RandomView((0.08, 1.0), 0.5, "centre-crop"), np.random.default_rng(0)
    boxes = np.array([view.box(300, 300, generator) for _ in range(2000)])
    shares = boxes[:, 2] * boxes[:, 3] / 300**2
    shapes = boxes[:, 3] / boxes[:, 2]
    assert shares.min() > 0.075 and shares.max() <= 1.0 and 0.45 < shares.mean() < 0.56
    assert shapes.min() > 0.73 and shapes.max() < 1.37
    assert abs(np.log(shapes).mean()) < 0.02


def test_views_do_not_depend_on_the_threads(tmp_path: Path):
    files = [picture(tmp_path / f"{n}.png", size=(40 + n, 60)) for n in range(5)]
    view = RandomView((0.08, 1.0), 0.5, "centre-crop")
    seen = [
        read_views(
            files,
            (32, 32),
            "centre-crop",
            workers=workers,
            random=view,
            generator=np.random.default_rng(3),
        )
        for workers in (1, 4)
    ]
    assert seen[0].shape == (5, 3, 32, 32) and torch.equal(*seen)
    assert not torch.equal(seen[0], read_views(files, (32, 32), "centre-crop"))


def test_the_schedule_restarts_after_its_held_epoch():
    """CoOp with 50 epochs: 1e-5 in the first, then lr/2 (1 + cos(pi (e-1)/50)), never 0."""
    schedule = HeldCosine(1, 1e-5 / 0.002)
    rates = [0.002 * schedule(epoch, 0, 9, 50) for epoch in range(50)]
    assert rates[0] == pytest.approx(1e-5) and rates[1] == pytest.approx(0.002)
    assert rates[26] == pytest.approx(0.001)
    assert rates[49] == pytest.approx(0.001 * (1 + math.cos(math.pi * 48 / 50)))
    assert rates[49] > 0 and schedule(3, 8, 9, 50) == schedule(3, 0, 9, 50)


def batches(model, count: int = 12, batch: int = 4) -> ShotBatches:
    images = pictures(count, seed=1)
    labels = [place % len(NAMES) for place in range(count)]
    with torch.no_grad():
        features = model.image_features(images)
    return ShotBatches(features_of(features), labels, name="features", batch=batch, seed=0)


def test_features_and_images_give_the_same_loss():
    bytes_ = (pictures(6) * 255).round().to(torch.uint8)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    for kind in ("coop", "cocoop"):
        model = load_prompt_classifier(kind, clip=small_state(), class_names=NAMES)
        task = ClassificationTask(model)
        seen, _ = task({"images": bytes_, "labels": labels})
        with torch.no_grad():
            features = model.image_features(bytes_.float() / 255)
        known, report = task({"features": features, "labels": labels})
        assert torch.allclose(seen["cross-entropy"], known["cross-entropy"], rtol=1e-5)
        right = (model.compare(features).argmax(1) == labels).float().mean()
        assert float(report["accuracy"]) == float(right)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["coop", "cocoop", "maple"])
def test_the_learner_alone_trains_and_is_all_that_is_saved(kind: str, tmp_path: Path):
    options: dict[str, Any] = {"depth": 3} if kind == "maple" else {}
    model = load_prompt_classifier(kind, clip=small_state(), class_names=NAMES, **options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task = ClassificationTask(model)
    assert all(name.startswith("prompt_learner.") for name in task.state_dict())
    source = batches(model)
    if kind == "maple":
        bytes_ = (pictures(12, seed=1) * 255).round().to(torch.uint8)
        labels = source.labels.tolist()
        source = ShotBatches(lambda at, _: bytes_[at], labels, name="images", batch=4, seed=0)
    stage = Stage("prompts", 3, source, Optimiser("sgd", lr=0.01, momentum=0.9), HeldCosine(1, 0.1))
    train(task, [stage], runtime=Runtime.create("cpu"), folder=tmp_path)
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {f"prompt_learner.{name}" for name in model.prompt_learner.state_dict()}
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if '"epoch"' in line]
    assert losses[-1] < losses[0]


def test_a_draw_smaller_than_a_batch_is_one_batch():
    read = features_of(torch.arange(3.0)[:, None])
    source = ShotBatches(read, [0, 1, 2], name="features", batch=32, seed=0)
    (only,) = source.epoch(0, 0, 1)
    assert sorted(only["labels"].tolist()) == [0, 1, 2]
    assert torch.equal(only["features"][:, 0].long(), only["labels"])


def test_every_image_is_seen_once_per_epoch_in_another_order(tmp_path: Path):
    files = [picture(tmp_path / f"{n}.png", size=(20, 20)) for n in range(8)]
    view = RandomView((0.5, 1.0), 0.5, "centre-crop")
    read = images_of(files, (16, 16), view, 2)
    source = ShotBatches(read, range(8), name="images", batch=4, seed=5)

    def epoch(number: int) -> tuple[list[int], Tensor]:
        found = list(source.epoch(number, 0, 1))
        return [n for b in found for n in b["labels"].tolist()], found[0]["images"]

    first, again, second = epoch(0), epoch(0), epoch(1)
    assert first[0] == again[0] and torch.equal(first[1], again[1])
    assert sorted(first[0]) == sorted(second[0]) == list(range(8)) and first[0] != second[0]


@pytest.mark.parametrize("name", list_learners())
@pytest.mark.parametrize("split", SPLITS)
def test_recipes_load_for_every_split(name: str, split: str):
    recipe = load_learner(name, split)
    assert from_plain(json.loads(json.dumps(recipe.plain()))).plain() == recipe.plain()
    assert recipe.summary and recipe.citation


def test_published_settings():
    coop = load_learner("coop").training
    assert coop is not None
    epochs = {shots: coop.epochs_for("oxford_pets", shots) for shots in (1, 2, 4, 8, 16, 32)}
    assert epochs == {1: 50, 2: 100, 4: 100, 8: 200, 16: 200, 32: 200}
    assert coop.epochs_for("imagenet", 16) == 50
    assert (coop.batch, coop.optimiser.lr, coop.optimiser.weight_decay) == (32, 0.002, 5e-4)
    maple = {split: load_learner("maple", split) for split in SPLITS}
    rates = {split: found.training.optimiser.lr for split, found in maple.items() if found.training}
    assert {split: found.depth for split, found in maple.items()} == {
        "all": 9, "base-new": 9, "cross": 3, "domain": 3, "people": 9,
    }  # fmt: skip
    assert rates["base-new"] == 0.0035 and rates["cross"] == rates["domain"] == 0.0026
    cocoop = load_learner("cocoop").training
    assert cocoop is not None and (cocoop.batch, cocoop.epochs) == (1, 10)


def test_published_numbers_of_parameters():
    compared = load_learner("coop", "base-new")
    assert count_learner("coop", n_ctx=compared.n_ctx) == 2_048
    assert count_learner("cocoop", n_ctx=load_learner("cocoop").n_ctx) == 35_360
    depths = {split: load_learner("maple", split).depth for split in ("base-new", "cross")}
    assert count_learner("maple", n_ctx=2, depth=depths["base-new"] or 0) == 3_555_072
    assert count_learner("maple", n_ctx=2, depth=depths["cross"] or 0) == 1_185_024


def test_the_share_is_of_clip_without_its_token_table():
    state = small_state()
    model = load_prompt_classifier("coop", clip=state, class_names=NAMES, n_ctx=4)
    whole = sum(value.numel() for name, value in state.items() if name != "attn_mask")
    found = counts(model)
    assert found["parameters"] == 4 * 128
    assert found["share"] == 4 * 128 / (whole - 49408 * 128)


def test_the_share_of_the_published_clip(shared: Path):
    """149,620,737 - 25,296,896 = 124,323,841: 2.86 %, 0.028 %, 0.0016 %."""
    layout = json.loads((shared / "golden" / "prompts_clip_vitb16.keys.json").read_text())
    sizes = {key: math.prod(shape) for key, (shape, _) in layout.items()}
    base = sum(sizes.values()) - sizes["token_embedding.weight"]
    assert base == 124_323_841
    assert round(100 * 3_555_072 / base, 2) == 2.86


def test_mistakes_in_recipes(tmp_path: Path):
    with pytest.raises(ReidpipeError, match="did you mean 'maple'"):
        load_learner("mapel")
    with pytest.raises(ReidpipeError, match="for_split 'base_new'.*'base-new'"):
        (tmp_path / "mine.yaml").write_text("base: coop\nfor_split: {base_new: {n_ctx: 2}}\n")
        load_learner(tmp_path / "mine.yaml")
    # A base that is a file lies beside the file that names it.
    (tmp_path / "mine.yaml").write_text("base: coop\nn_ctx: 7\n")
    (tmp_path / "twin.yaml").write_text("base: mine.yaml\n")
    assert load_learner(tmp_path / "twin.yaml").n_ctx == 7
    with pytest.raises(ReidpipeError, match="every learner has training"):
        load_learner("coop", settings=[("training", "null")])
    coop = load_learner("coop", settings=[("training.epochs", "{8: 3}")]).training
    assert coop is not None
    with pytest.raises(ReidpipeError, match="4 shots and epochs for \\[8\\]"):
        coop.epochs_for("oxford_pets", 4)


@pytest.mark.parametrize("text", ["[1]", "5", "all", "{all: 3}", "{5: {}}", "{all: null}"])
def test_changes_by_split_are_mappings(text: str, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"base: coop\nfor_split: {text}\n")
    with pytest.raises(ReidpipeError, match="for_split"):
        load_learner(file)
    file.write_text("base: coop\nfor_split: null\n")
    assert load_learner(file).learner == "coop"


def test_clip_tiny_is_compared_with_names_and_maple_cannot_enter_it():
    model = load_prompt_classifier("zero-shot", clip="clip-tiny", class_names=NAMES)
    assert model.input_size == (128, 64) and float(model.mean[0, 0, 0, 0]) == 0.5
    assert model(torch.rand(2, 3, 128, 64)).shape == (2, 3)
    with pytest.raises(ReidpipeError, match="found a ResNet .* expected a CLIP with a ViT"):
        load_prompt_classifier("maple", clip="clip-tiny", class_names=NAMES)
