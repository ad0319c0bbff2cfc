"""CoOp, CoCoOp and MaPLe train as their authors do: a few steps of the shipped recipes through the
one loop, in float64, beside the papers' formulas and Dassl's SGD and schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from reid_train.classify.classifier import load_prompt_classifier
from reid_train.classify.recipe import LearnerRecipe, load_learner
from reid_train.classify.task import ClassificationTask
from reid_train.classify.work import _stage
from reid_train.data.shots import Row
from reid_train.engine.runtime import Runtime
from tests.reid_train.models.small_clip import NAMES, small_state
from tests.reid_train.plain.clip import cross_entropy, image, text, unit
from tests.reid_train.plain.updates import Named, Sgd, gradients, leaves
from tests.reid_train.stepping import Steps, recorded

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
HEADS = {"text": 2, "image": 1}
EPOCHS = 2


def follow(name: str, split: str, images: int, folder: Path, **changed: str) -> tuple[Steps, Named]:
    """The recorded steps of a recipe on ``images`` pictures of noise, and its first vectors."""
    settings = [(key.replace("_", "."), value) for key, value in changed.items()]
    recipe = load_learner(name, split, settings)
    assert recipe.training is not None and recipe.precision == "fp16"
    number = recipe.training.epochs_for("oxford_pets", 16)
    training = recipe.training.model_copy(update={"epochs": number})
    recipe = recipe.model_copy(update={"training": training})
    runtime = Runtime.create("cpu", "fp64")
    model = load_prompt_classifier(
        recipe.learner, clip=small_state(), class_names=NAMES, seed=3, **recipe.options()
    )
    runtime.place(model)
    task = ClassificationTask(model)
    first = {n: p.detach().clone() for n, p in task.prompt_learner.named_parameters()}
    noise = np.random.default_rng(1).integers(0, 256, (images, 3, 64, 64), dtype=np.uint8)
    rows = [Row(f"{n}.png", n % len(NAMES), NAMES[n % len(NAMES)]) for n in range(images)]

    def read(positions: np.ndarray, generator: np.random.Generator) -> Tensor:
        del generator
        return torch.from_numpy(noise[positions])

    stage = _stage(recipe, ("images", read), rows, 0)
    return recorded(task, stage, runtime, folder, epochs=EPOCHS), first


def expected(
    found: Steps, first: Named, logits: Callable[[Named, Tensor], Tensor], *, lr: float, epochs: int
) -> None:
    """The same steps by the formulas; raises where anything is different."""
    sgd, learnt = Sgd(0.9), leaves(first)
    per_epoch, rest = divmod(len(found.batches), min(EPOCHS, epochs))
    assert per_epoch >= 2 and not rest and len(found.loss) == len(found.batches)
    for step, batch in enumerate(found.batches):
        epoch = step // per_epoch
        rate = 1e-5 if epoch == 0 else lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))
        shift, scale = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (MEAN, STD))
        pixels = (batch["images"].double() / 255 - shift) / scale
        loss = cross_entropy(logits(learnt, pixels), batch["labels"])
        learnt = sgd(learnt, gradients(loss, learnt), lambda _, rate=rate: (rate, 5e-4))
        assert found.loss[step] == pytest.approx(loss.item(), rel=1e-11)
        rules = {n.removeprefix("prompt_learner."): r for n, r in found.rules[step].items()}
        assert rules.keys() == learnt.keys()
        assert all(rule == pytest.approx((rate, 5e-4), rel=1e-12) for rule in rules.values())
        for name, value in learnt.items():
            own = found.states[step][f"prompt_learner.{name}"]
            torch.testing.assert_close(own, value.detach(), rtol=1e-9, atol=1e-13)


def tokens(opening: str) -> tuple[Tensor, Tensor]:
    """Ids and end places of the sentences of ``NAMES``, all 77 positions."""
    tokenizer = SimpleTokenizer()
    ids = torch.zeros(len(NAMES), 77, dtype=torch.long)
    for row, name in zip(ids, NAMES, strict=True):
        words = [49406, *tokenizer.encode(f"{opening} {name.replace('_', ' ')}."), 49407]
        row[: len(words)] = torch.tensor(words)
    return ids, ids.argmax(1)


def doubled() -> Named:
    return {k: v.double() if v.is_floating_point() else v for k, v in small_state().items()}


def compared(state: Named, images: Tensor, texts: Tensor) -> Tensor:
    return state["logit_scale"].exp() * unit(images) @ unit(texts).transpose(-1, -2)


def with_vectors(words: Tensor, vectors: Tensor) -> Tensor:
    count = vectors.shape[0]
    return torch.cat(
        [words[:, :1], vectors.expand(len(words), -1, -1), words[:, 1 + count :]], dim=1
    )


@pytest.mark.parametrize(
    ("split", "opening"),
    [
        ("all", " ".join(["X"] * 16)),
        pytest.param("base-new", "a photo of a", marks=pytest.mark.slow),
    ],
)
def test_coop(split: str, opening: str, tmp_path: Path):
    found, first = follow("coop", split, 70, tmp_path)  # two batches of 32, six images left
    state = doubled()
    ids, ends = tokens(opening)
    words = state["token_embedding.weight"][ids]
    if split == "base-new":
        torch.testing.assert_close(first["ctx"], words[0, 1:5])
    else:
        assert first["ctx"].shape == (16, 128) and 0.017 < float(first["ctx"].std()) < 0.023

    def logits(learnt: Named, pixels: Tensor) -> Tensor:
        texts = text(state, with_vectors(words, learnt["ctx"]), ends, heads=HEADS["text"])
        return compared(state, image(state, pixels, heads=HEADS["image"]), texts)

    expected(found, first, logits, lr=0.002, epochs=200)


def test_cocoop(tmp_path: Path):
    found, first = follow("cocoop", "base-new", 3, tmp_path)  # one image a step
    state = doubled()
    ids, ends = tokens("a photo of a")
    words = state["token_embedding.weight"][ids]
    assert first["meta_net.linear1.weight"].shape == (2, 32)  # 32 // 16

    def logits(learnt: Named, pixels: Tensor) -> Tensor:
        features = unit(image(state, pixels, heads=HEADS["image"]))
        rows = []
        for feature in features:
            hidden = learnt["meta_net.linear1.weight"] @ feature + learnt["meta_net.linear1.bias"]
            hidden = hidden.clamp(min=0)
            bias = learnt["meta_net.linear2.weight"] @ hidden + learnt["meta_net.linear2.bias"]
            prompts = with_vectors(words, learnt["ctx"] + bias)
            rows.append(text(state, prompts, ends, heads=HEADS["text"]))
        pairs = zip(features, rows, strict=True)
        return torch.cat([compared(state, f[None], texts) for f, texts in pairs])

    expected(found, first, logits, lr=0.002, epochs=10)


@pytest.mark.parametrize(
    ("split", "lr", "epochs"),
    [("base-new", 0.0035, 5), pytest.param("cross", 0.0026, 2, marks=pytest.mark.slow)],
)
def test_maple(split: str, lr: float, epochs: int, tmp_path: Path):
    # The small towers have 4 blocks; published are 9 of 12, and 3 for other data sets.
    found, first = follow("maple", split, 9, tmp_path, depth="3")
    state = doubled()
    ids, ends = tokens("a photo of a")  # of which two words are learnt, and two stay
    words = state["token_embedding.weight"][ids]
    torch.testing.assert_close(first["ctx"], words[0, 1:3])

    def projected(learnt: Named, layer: str, vectors: Tensor) -> Tensor:
        return vectors @ learnt[f"{layer}.weight"].T + learnt[f"{layer}.bias"]

    def logits(learnt: Named, pixels: Tensor) -> Tensor:
        deep: Sequence[Tensor] = [learnt[f"compound_prompts_text.{n}"] for n in range(2)]
        seen = [
            projected(learnt, f"compound_prompt_projections.{n}", vectors)
            for n, vectors in enumerate(deep)
        ]
        prompts = with_vectors(words, learnt["ctx"])
        texts = text(state, prompts, ends, heads=HEADS["text"], deep=deep)
        entry = projected(learnt, "proj", learnt["ctx"])
        images = image(state, pixels, heads=HEADS["image"], first=entry, deep=seen)
        return compared(state, images, texts)

    expected(found, first, logits, lr=lr, epochs=epochs)


def test_float64_is_an_option_of_the_recipe():
    recipe = load_learner("coop", "all", [("precision", "fp64")])
    assert isinstance(recipe, LearnerRecipe) and recipe.precision == "fp64"
