"""MaPLe: which place of which block every vector takes, and its authors' recorded outputs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.checkpoint import load_strict
from reid_train.models.clip.classifier import Maple
from reid_train.models.clip.towers import Towers, clip_towers
from reid_train.models.learners import PHOTO, replace_words, word_prompts
from reid_train.models.maple import MapleLearner, encode_images, encode_texts
from tests.reid_train.models.small_clip import NAMES, pictures, recorded_text_side, small_state


@pytest.fixture(scope="module")
def towers() -> Towers:
    return clip_towers(small_state(), "the small CLIP")


def _learner(depth: int, n_ctx: int = 2) -> MapleLearner:
    torch.manual_seed(0)
    learner = MapleLearner(width=128, image_width=64, n_ctx=n_ctx, depth=depth)
    for parameter in learner.parameters():
        nn.init.normal_(parameter, std=1.0 if parameter.shape[0] == n_ctx else 0.1)
    return learner


@contextmanager
def _overwriting(blocks: nn.ModuleList, prompts: Sequence[Tensor], at: slice):
    """Inside, ``blocks[i]`` finds ``prompts[i]`` at these places of its input, for i > 0."""

    def hook(prompt: Tensor):
        def before(_block, inputs):
            x = inputs[0].clone()
            x[:, at] = prompt
            return (x, *inputs[1:])

        return before

    with ExitStack() as stack:
        for block, prompt in list(zip(blocks, prompts, strict=False))[1:]:
            stack.callback(block.register_forward_pre_hook(hook(prompt)).remove)
        yield


@pytest.mark.parametrize("depth", [1, 3, 6])
@pytest.mark.parametrize("n_ctx", [2, 3])
def test_image_prompts_stand_last_and_are_overwritten(towers, depth, n_ctx):
    tower, prompts = towers.image, _learner(depth, n_ctx)().image
    images = pictures(2)
    found = encode_images(tower, images, prompts)

    def append(_module, inputs):
        assert inputs[0].shape[1] == 1 + 16  # class token and patches, positions added
        return (torch.cat([inputs[0], prompts[0].expand(2, -1, -1)], dim=1),)

    handle = tower.ln_pre.register_forward_pre_hook(append)
    with _overwriting(tower.transformer.resblocks, prompts, slice(17, 17 + n_ctx)):
        expected = tower(images)
    handle.remove()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert float((found - tower(images)).detach().abs().max()) > 0.1


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_text_prompts_follow_the_start_token_and_are_overwritten(towers, depth):
    tower, prompts = towers.text, _learner(depth)().text
    words = word_prompts(NAMES, n_ctx=2, template=PHOTO)
    embedded = replace_words(tower.token_embedding(words.ids), prompts[0])
    found = encode_texts(tower, embedded, words.ends, prompts)
    length = embedded.shape[1]
    with _overwriting(tower.transformer.resblocks, prompts, slice(1, 3)):
        x = embedded + tower.positional_embedding[:length]
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    rows = tower.ln_final(x)[torch.arange(3), words.ends] @ tower.text_projection
    torch.testing.assert_close(found, rows, rtol=1e-4, atol=1e-4)


def test_every_vector_reaches_the_logits(towers):
    model = Maple(towers, _learner(4), NAMES, template=PHOTO)
    model(pictures(2))[:, 0].sum().backward()
    for name, parameter in model.named_parameters():
        learnt = name.startswith("prompt_learner.")
        assert (parameter.grad is not None) == learnt, name
        assert parameter.grad is None or float(parameter.grad.abs().max()) > 0, name


def test_prompts_in_batches_are_the_same(towers):
    learner = _learner(3)
    whole = Maple(towers, learner, NAMES, template=PHOTO).text_features()
    parts = Maple(towers, learner, NAMES, template=PHOTO, text_batch=2).text_features()
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    own, expected = (
        torch.autograd.grad(rows.square().sum(), learner.compound_prompts_text[1])[0]
        for rows in (parts, whole)
    )
    torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_vectors_start_small_and_depth_is_at_least_one():
    torch.manual_seed(0)
    learner = MapleLearner(n_ctx=32)
    for vectors in (learner.ctx, *learner.compound_prompts_text):
        assert float(vectors.detach().std()) == pytest.approx(0.02, rel=0.03)
    assert len(MapleLearner(depth=1)().text) == len(MapleLearner(depth=1)().image) == 1
    with pytest.raises(ValueError, match="depth is 0; expected 1"):
        MapleLearner(depth=0)


# ------------------------------------------------------------------------------ recorded outputs


@pytest.fixture(scope="module")
def learnt(golden_state) -> MapleLearner:
    learner = MapleLearner()
    state = golden_state("prompts_maple.keys.json")
    named = {k.removeprefix("prompt_learner."): torch.from_numpy(v) for k, v in state.items()}
    load_strict(learner, named)
    return learner.requires_grad_(False)


@pytest.fixture(scope="module")
def published(shared, fill) -> Towers:
    return recorded_text_side(shared, fill)


def test_image_vectors_are_the_recorded_projections(learnt, golden):
    expected = golden("prompts_maple.npz")
    deep = learnt()
    assert np.array_equal(deep.text[1].numpy(), expected["maple.deep_text0"])
    np.testing.assert_allclose(deep.image[0], expected["maple.shared_ctx_visual"], atol=2e-6)
    assert len(deep.image) == 9
    np.testing.assert_allclose(
        torch.stack(deep.image[1:]), expected["maple.deep_visual"], rtol=0, atol=2e-6
    )


def test_texts_are_the_recorded_ones(published, learnt, golden):
    expected = golden("prompts_maple.npz")
    model = Maple(published, learnt, NAMES, template=PHOTO)
    length = model.ids.shape[1]
    assert np.array_equal(model.ids.numpy(), expected["maple.tokens"][:, :length])
    assert not expected["maple.tokens"][:, length:].any()
    words = published.text.token_embedding(model.ids[0, 1:3]).detach()
    assert np.array_equal(words.numpy(), expected["maple.init_ctx"])
    prompts = model.prompts().detach()
    assert prompts.shape[1] == length
    recorded = expected["maple.prompts_slice"]
    np.testing.assert_allclose(prompts[..., :4], recorded[:, :length], rtol=0, atol=1e-6)

    texts = model.text_features().detach()
    np.testing.assert_allclose(texts, expected["maple.d9.text_features"], rtol=0, atol=1e-4)
    images = F.normalize(torch.from_numpy(expected["maple.d9.image_features"]), dim=-1)
    logits = model.logit_scale.exp() * images @ F.normalize(texts, dim=-1).T
    np.testing.assert_allclose(logits, expected["maple.d9.logits"], rtol=0, atol=1e-6)
    loss = F.cross_entropy(logits, torch.tensor([0, 2]))
    np.testing.assert_allclose(loss, expected["maple.d9.loss_labels_0_2"], rtol=0, atol=1e-6)
    # their half-precision vectors, which we do not imitate, change this much
    halved = expected["maple.d9_halfprompts.text_features"]
    np.testing.assert_allclose(texts, halved, rtol=0, atol=0.05)
    images = F.normalize(torch.from_numpy(expected["maple.d9_halfprompts.image_features"]), dim=-1)
    logits = model.logit_scale.exp() * images @ F.normalize(texts, dim=-1).T
    np.testing.assert_allclose(logits, expected["maple.d9_halfprompts.logits"], rtol=0, atol=3e-5)
