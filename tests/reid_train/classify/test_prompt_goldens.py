"""Prompt learners in full: the logits and gradients recorded from their authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reid_train.classify.classifier import load_prompt_classifier
from tests.reid_train.models.small_clip import NAMES


@pytest.fixture(scope="module")
def recorded(golden_state, fill):
    """The recorded ViT-B/16 and its two images, 0..1."""
    state = golden_state("prompts_clip_vitb16.keys.json")
    pixels = np.stack([fill.image(name, (224, 224, 3)) for name in ("prompt_a", "prompt_b")])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return {key: torch.as_tensor(value) for key, value in state.items()}, images


RECORDED = [
    ("zero-shot", "prompts_coop", "zeroshot", {}, 1e-6),
    ("coop", "prompts_coop", "coop.end16", {}, 1e-6),
    ("coop", "prompts_coop", "coop.init4", {"template": "a photo of a {}."}, 1e-6),
    ("cocoop", "prompts_cocoop", "cocoop", {}, 1e-6),
    ("maple", "prompts_maple", "maple.d9", {}, 1e-6),
    ("maple", "prompts_maple", "maple.d9_halfprompts", {}, 3e-5),  # what their cast to half does
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "file", "tag", "options", "atol"), RECORDED, ids=lambda v: str(v))
def test_logits_are_the_recorded_ones(
    recorded, golden, golden_state, kind, file, tag, options, atol
):
    clip, images = recorded
    expected = {k[len(tag) + 1 :]: v for k, v in golden(f"{file}.npz").items() if k.startswith(tag)}
    learner = None
    if kind != "zero-shot" and "init" not in tag:
        state = golden_state(f"{file}.keys.json")
        learner = {key: torch.from_numpy(value) for key, value in state.items()}
    model = load_prompt_classifier(kind, clip=clip, learner=learner, class_names=NAMES, **options)
    assert model.input_size == (224, 224)
    images = images[: len(expected["logits"])]
    logits = model(images)
    np.testing.assert_allclose(logits.detach(), expected["logits"], rtol=0, atol=atol)
    features = model.image_features(images).detach()
    np.testing.assert_allclose(features, expected["image_features"], rtol=0, atol=100 * atol)
    if "loss_labels_0_2" in expected:
        loss = F.cross_entropy(logits, torch.tensor([0, 2]))
        np.testing.assert_allclose(loss.detach(), expected["loss_labels_0_2"], rtol=0, atol=atol)
    if "ctx_grad" in expected:
        gradient = torch.autograd.grad(loss, model.prompt_learner.ctx)[0].numpy()
        scale = np.abs(expected["ctx_grad"]).max()
        np.testing.assert_allclose(gradient, expected["ctx_grad"], rtol=0, atol=1e-4 * scale)
