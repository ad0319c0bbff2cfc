"""CLIP-ReID's first stage with the ResNet-50 trains as its authors do: frozen features, prompts of
identities, both contrasts, Adam and its curve, written out in float64.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reid_train.data.features import FeatureBatches, FrozenFeatures
from reid_train.engine.runtime import Runtime
from reid_train.models.text_table import TextTable
from reid_train.recipe.assembly import build_task, build_terms
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.prompt_task import OUTPUTS, PromptTask
from reid_train.recipe.stages import build_stage
from tests.reid_train.plain.resnet import Encoder
from tests.reid_train.plain.updates import Adam, gradients, leaves
from tests.reid_train.recipe.small_rn50 import (
    IMAGE_HEADS,
    SETTINGS,
    SIZE,
    normalised,
    prompt_rows,
    scatter,
    small_texts,
)
from tests.reid_train.stepping import recorded

PEOPLE, IMAGES, EPOCHS = 6, 70, 6  # a batch of 64 and one of 6; the warm-up ends within
CONTEXT = "text.prompt_learner.cls_ctx"


def contrast(anchors: Tensor, candidates: Tensor, labels: Tensor) -> Tensor:
    """-1/B sum_i 1/|P(i)| sum_(p of P(i)) log softmax_p, temperature 1, lengths as they are."""
    total = anchors.new_zeros(())
    for anchor, label in zip(anchors, labels, strict=True):
        scores = candidates @ anchor
        chances = scores - torch.logsumexp(scores, 0)
        total = total - chances[labels == label].mean()
    return total / len(anchors)


def published_rate(epoch: int) -> float:
    """Epochs count from 1: five rise from 1e-5, then half a cosine over all 60 down to 1e-6."""
    if epoch < 5:
        return 1e-5 + (3.5e-4 - 1e-5) * epoch / 5
    return 1e-6 + (3.5e-4 - 1e-6) * (1 + math.cos(math.pi * epoch / 60)) / 2


def test_the_first_steps(tmp_path: Path):
    recipe = load_recipe("clip-reid-rn50", SETTINGS)
    runtime = Runtime.create("cpu", "fp64")
    torch.manual_seed(0)
    rows = TextTable(torch.zeros(PEOPLE, 1024), list(range(PEOPLE)))
    model = build_task(recipe, classes=PEOPLE, texts=rows).model.eval()
    scatter(model, 1)
    runtime.place(model)
    pixels = torch.randint(0, 256, (IMAGES, 3, *SIZE), dtype=torch.uint8)
    with torch.no_grad():
        x = (pixels.double() / 255 - model.mean) / model.std
        features = model.trunk.tokens(x).projected[:, 0]  # type: ignore[operator]
    state = {n: v.double() for n, v in model.trunk.image_encoder.state_dict().items()}  # type: ignore[union-attr]
    own = Encoder(state, heads=IMAGE_HEADS)(normalised(pixels)).projected[:, 0]
    torch.testing.assert_close(features, own, rtol=1e-10, atol=1e-10)

    texts = small_texts(recipe, PEOPLE, runtime)
    spec = recipe.prompt_stages[0]
    assert (spec.epochs, len(recipe.prompt_stages)) == (60, 1)
    assert spec.data.batch == 64 and not spec.data.parts  # type: ignore[union-attr]
    task = PromptTask(texts, {spec.name: build_terms(spec, OUTPUTS)})
    frozen = FrozenFeatures(features, torch.arange(IMAGES) % PEOPLE, list(range(PEOPLE)))
    batches = FeatureBatches(frozen, batch=64, parts=False, seed=0)
    tower = {n: v.clone() for n, v in texts.text_encoder.state_dict().items()}
    learnt = leaves({CONTEXT: texts.prompt_learner.cls_ctx})
    assert 0.017 < float(learnt[CONTEXT].detach().std()) < 0.023
    found = recorded(task, build_stage(spec, batches), runtime, tmp_path, epochs=EPOCHS)

    adam = Adam()
    assert [len(batch["labels"]) for batch in found.batches] == [64, 6] * EPOCHS
    for step, batch in enumerate(found.batches):
        labels, rate = batch["labels"], published_rate(step // 2 + 1)
        sentence = "A photo of a X X X X person."
        given = prompt_rows(tower, learnt[CONTEXT], sentence)[labels]
        loss = contrast(batch["projected"], given, labels)
        loss = loss + contrast(given, batch["projected"], labels)
        assert found.loss[step] == pytest.approx(loss.item(), rel=1e-11)
        learnt = adam(learnt, gradients(loss, learnt), lambda _, rate=rate: (rate, 1e-4))
        assert found.rules[step].keys() == {CONTEXT}
        assert found.rules[step][CONTEXT] == pytest.approx((rate, 1e-4), rel=1e-12)
        own = found.states[step][CONTEXT]
        torch.testing.assert_close(own, learnt[CONTEXT].detach(), rtol=1e-8, atol=1e-10)
    for name, value in tower.items():
        assert torch.equal(found.states[-1][f"text.text_encoder.{name}"], value)
