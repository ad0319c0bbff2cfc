"""clip-tiny-vit, untrained: known by its shapes, and a CLIP that MaPLe can enter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import ReidpipeError
from reid_train.classify.classifier import load_prompt_classifier
from reid_train.classify.recipe import load_learner
from reid_train.classify.steps import Classes, Clip, accuracy, learner
from reid_train.classify.tables import learner_rows
from reid_train.classify.work import counts
from reid_train.models.clip.classifier import ClipClassifier
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.models.clip.tiny.tower import image_network, tiny_tower
from reid_train.models.clip.towers import clip_state, clip_towers
from reid_train.weights.captions import vocabulary
from reid_train.weights.pretraining import initial, save
from tests.reid_train.models.small_clip import NAMES, small_state

RECIPES = ("zero-shot-tiny-vit", "coop-tiny-vit", "cocoop-tiny-vit", "maple-tiny")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "tiny.safetensors"
    words = vocabulary()
    save(initial(0, len(words), "vit"), words, path)
    return path


@pytest.fixture
def state(file: Path) -> dict[str, Tensor]:
    return clip_state(file)[0]


def images(count: int) -> Tensor:
    return torch.rand(count, 3, *clip_tiny.INPUT, generator=torch.Generator().manual_seed(0))


def classifier(name: str, file: Path) -> ClipClassifier:
    recipe = load_learner(name, "base-new")
    return load_prompt_classifier(recipe.learner, clip=file, class_names=NAMES, **recipe.options())


def test_towers_are_known_by_their_shapes(state: dict[str, Tensor]):
    assert tiny_tower(state) == "vit" and tiny_tower(small_state()) is None
    resnet = image_network("resnet").image_encoder.state_dict()
    assert tiny_tower({f"visual.{key}": value for key, value in resnet.items()}) == "resnet"
    assert tiny_tower({**state, "visual.proj": torch.zeros(128, 64)}) is None

    towers = clip_towers(state, "the file")
    assert (towers.mean, towers.std) == ((0.5,) * 3, (0.5,) * 3)
    assert tuple(towers.image.image_size) == (128, 64) and towers.image.output_dim == 128
    # as many heads as it was trained with, and the grid it was trained with
    attention = towers.image.transformer.resblocks[0].attn
    assert attention.num_heads == clip_tiny.VIT["heads"]
    patch = clip_tiny.VIT["patch"]
    rows = 1 + (128 // patch) * (64 // patch)
    assert towers.image.positional_embedding.shape == (rows, clip_tiny.VIT["width"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"visual.ln_post.weight": None}, "visual.*ln_post.weight"),
        ({"visual.transformer.resblocks.0.ln_1.weight": torch.ones(64)}, "resblocks.0.ln_1.weight"),
        ({"visual.transformer.resblocks.9.ln_1.weight": torch.ones(128)}, "resblocks.9"),
        ({"ln_final.weight": None}, "text tower.*ln_final.weight"),
        ({"logit_scale": None}, "logit_scale"),
    ],
    ids=["missing", "shape", "unknown", "text", "scale"],
)
def test_what_does_not_fit_is_refused_by_name(
    state: dict[str, Tensor], change: dict[str, Tensor | None], told: str
):
    wrong = {key: value for key, value in {**state, **change}.items() if value is not None}
    with pytest.raises(ReidpipeError, match=told):
        clip_towers(wrong, "the file")


def test_maple_moves_the_image_and_coop_does_not(file: Path):
    shown = images(2)
    plain = classifier("zero-shot-tiny-vit", file)
    with torch.no_grad():
        own = plain.image_features(shown)
        for name in ("coop-tiny-vit", "cocoop-tiny-vit"):
            assert torch.equal(classifier(name, file).image_features(shown), own)
        assert (classifier("maple-tiny", file).image_features(shown) - own).abs().max() > 1e-4


@pytest.mark.parametrize("depth", [2, 3])
def test_every_block_maple_enters_matters(file: Path, depth: int):
    model = load_prompt_classifier("maple", clip=file, class_names=NAMES, depth=depth)
    model(images(2))[:, 0].sum().backward()
    learnt = dict(model.prompt_learner.named_parameters())
    assert sum(name.startswith("compound_prompts_text.") for name in learnt) == depth - 1
    for name, parameter in learnt.items():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name
    with torch.no_grad():
        before = model.image_features(images(2))
        model.prompt_learner.compound_prompts_text[depth - 2].add_(1.0)
        assert not torch.allclose(model.image_features(images(2)), before, atol=1e-4)


def test_maple_has_no_more_depth_than_the_text_has_blocks(file: Path):
    blocks = f"4 blocks and towers of {clip_tiny.VIT['layers']} and 3"
    with pytest.raises(ReidpipeError, match=blocks):
        load_prompt_classifier("maple", clip=file, class_names=NAMES, depth=4)


def test_recipes_stand_on_one_clip_and_state_what_they_train(file: Path):
    rows = {row["recipe"]: row for row in learner_rows(parameters=True)}
    for name in RECIPES:
        assert load_learner(name).pretrained == "clip-tiny-vit"
        assert rows[name]["input"] == "128x64"
        assert rows[name]["parameters"] == counts(classifier(name, file))["parameters"]


def test_maple_is_trained_as_its_authors_do_where_sizes_are_not_in_the_way():
    own, published = (load_learner(name, "base-new").training for name in ("maple-tiny", "maple"))
    assert own is not None and published is not None
    assert (own.batch, own.optimiser, own.warmup_epochs) == (
        published.batch,
        published.optimiser,
        published.warmup_epochs,
    )
    people = load_learner("maple-tiny", "people").training
    assert people is not None
    # the rate grows with the batch
    assert people.optimiser.lr / people.batch == published.optimiser.lr / published.batch
    assert {split: load_learner("maple-tiny", split).depth for split in ("people", "cross")} == {
        "people": 2,
        "cross": 1,
    }


def test_only_maple_reads_images_where_others_read_features(file: Path):
    classes = Classes(Step("index", {"dataset": "mannequins"}), "mannequins", "a {}.")
    clip = Clip.named(str(file))
    for name in ("coop-tiny-vit", "cocoop-tiny-vit", "maple-tiny"):
        recipe = load_learner(name, "base-new")
        trained = learner(classes, recipe, clip, count=16, part="base", seed=1)
        tested = accuracy(classes, recipe, clip, part="base", trained=trained)
        assert ("features" in trained.inputs) == (name != "maple-tiny")
        assert ("features" in tested.inputs) == (name != "maple-tiny")


def test_names_of_what_ships_are_files(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(clip_tiny.FILES, "clip-tiny-vit", file)
    assert Clip.named("clip-tiny-vit") == Clip.named(str(file))
    model = load_prompt_classifier("zero-shot", clip="clip-tiny-vit", class_names=NAMES)
    assert model(images(2)).shape == (2, 3)
    monkeypatch.setitem(clip_tiny.FILES, "clip-tiny-vit", tmp_path / "none")
    with pytest.raises(ReidpipeError, match="none; expected openai, clip-tiny, clip-tiny-vit or a"):
        Clip.named("clip-tiny-vit")
