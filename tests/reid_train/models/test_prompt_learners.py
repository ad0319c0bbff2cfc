"""CoOp and CoCoOp: where every token stands, and their authors' recorded texts."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_strict
from reid_train.models.clip.classifier import CoCoOp, CoOp, ZeroShot
from reid_train.models.clip.text import ClipText
from reid_train.models.clip.towers import Towers, clip_towers
from reid_train.models.learners import (
    ENSEMBLE,
    PHOTO,
    CoCoOpLearner,
    CoOpLearner,
    arrangement,
    fill_template,
    replace_words,
    word_prompts,
)
from tests.reid_train.models.small_clip import NAMES, recorded_text_side, small_state

START, END, X = 49406, 49407, 343


def test_placeholders_stand_before_the_names():
    words = word_prompts(NAMES, n_ctx=4)
    assert words.ids.tolist() == [
        [START, X, X, X, X, 2368, 269, END, 0, 0],
        [START, X, X, X, X, 3878, 28394, 269, END, 0],
        [START, X, X, X, X, 3329, 539, 7247, 269, END],
    ]
    assert words.ends.tolist() == [7, 8, 9]
    assert (words.start, words.lengths) == (5, (1, 2, 3))


def test_a_template_gives_its_words():
    words = word_prompts(NAMES, n_ctx=2, template="a_photo of a {}.")
    assert words.ids[0].tolist() == [START, 320, 1125, 539, 320, 2368, 269, END, 0, 0]
    assert words.start == 5


# vectors 1 to 5 (odd, so halves differ), then a name of 1, 2 or 3 tokens, full stop, end token
PLACES = {
    "end": (
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    ),
    "middle": (
        [0, 1, 2, 6, 3, 4, 5, 7, 8, 9, 10],
        [0, 1, 2, 6, 7, 3, 4, 5, 8, 9, 10],
        [0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10],
    ),
    "front": (
        [0, 6, 1, 2, 3, 4, 5, 7, 8, 9, 10],
        [0, 6, 7, 1, 2, 3, 4, 5, 8, 9, 10],
        [0, 6, 7, 8, 1, 2, 3, 4, 5, 9, 10],
    ),
}


@pytest.mark.parametrize("position", PLACES)
def test_the_name_moves_and_the_end_token_stays(position):
    words = word_prompts(NAMES, n_ctx=5)
    assert arrangement(words, 5, position).tolist() == list(PLACES[position])


def test_vectors_replace_words():
    words = torch.arange(2 * 6 * 3.0).view(2, 6, 3)
    vectors = -torch.arange(1, 7.0).view(2, 3)
    for own in (vectors, torch.stack([vectors, vectors])):
        joined = replace_words(words, own, first=2)
        assert torch.equal(joined[:, :2], words[:, :2])
        assert torch.equal(joined[:, 2:4], vectors.expand(2, 2, 3))
        assert torch.equal(joined[:, 4:], words[:, 4:])


@pytest.mark.parametrize("template", ["a photo.", "{} and {}", ""])
def test_a_template_without_its_place_is_refused(template):
    with pytest.raises(ReidpipeError, match="expected one {} where the class name goes"):
        fill_template(template, NAMES)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no list of class names"),
        ("cat", "no list of class names"),
        (["cat", "_"], "class name '_' for label 1"),
        (["cat", None], "class name None for label 1"),
    ],
)
def test_names_that_are_none_are_refused(names, message):
    with pytest.raises(ReidpipeError, match=message):
        fill_template(PHOTO, names)


@pytest.mark.parametrize("n_ctx", [0, 5, 16])
def test_vectors_do_not_reach_into_the_name(n_ctx):
    with pytest.raises(ReidpipeError, match=f"found {n_ctx} learnt vectors for the 4 words"):
        word_prompts(NAMES, n_ctx=n_ctx, template=PHOTO)


def test_positions_are_checked():
    words = word_prompts(NAMES, n_ctx=4)
    with pytest.raises(ReidpipeError, match="position 'fron' .did you mean 'front'"):
        arrangement(words, 4, "fron")
    apart = word_prompts(NAMES, n_ctx=2, template=PHOTO)
    with pytest.raises(ReidpipeError, match="2 fixed words between the 2 learnt vectors"):
        arrangement(apart, 2, "front")
    assert arrangement(apart, 2, "end")[0].tolist() == list(range(10))


def test_vectors_start_small():
    torch.manual_seed(0)
    for learner in (CoOpLearner(n_ctx=16, classes=5), CoCoOpLearner(n_ctx=64)):
        assert float(learner.ctx.detach().std()) == pytest.approx(0.02, rel=0.03)
        assert float(learner.ctx.detach().mean()) == pytest.approx(0, abs=5e-4)


def test_the_meta_net_sees_directions_and_moves_all_vectors_alike():
    torch.manual_seed(0)
    learner = CoCoOpLearner(width=12, dim=32, n_ctx=3).requires_grad_(False)
    first, _, second = learner.meta_net
    assert dict(learner.meta_net.named_children()).keys() == {"linear1", "relu", "linear2"}
    assert first.weight.shape == (2, 32)
    features = torch.randn(4, 32)
    contexts = learner(features)
    assert contexts.shape == (4, 3, 12)
    torch.testing.assert_close(learner(7.5 * features), contexts)
    shift = contexts - learner.ctx
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))
    by_hand = first(features[2] / features[2].norm()).clamp(min=0)
    torch.testing.assert_close(shift[2, 0], second(by_hand))
    assert float((contexts[0] - contexts[1]).abs().max()) > 1e-3


# ----------------------------------------------- a small CLIP against the plain pass of open_clip


@pytest.fixture(scope="module")
def towers() -> Towers:
    return clip_towers(small_state(), "the small CLIP")


def _plain(tower: ClipText, embedded: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """All blocks over all positions, as CLIP does it."""
    length = embedded.shape[1]
    x = embedded + tower.positional_embedding[:length]
    assert tower.attn_mask is not None
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    return tower.ln_final(x)[torch.arange(len(x)), ends] @ tower.text_projection


def _assert_grads(ours: torch.Tensor, plain: torch.Tensor, learner: torch.nn.Module) -> None:
    """Equal rows and equal gradients of a random sum of them."""
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    own, expected = (
        torch.autograd.grad((rows * weight).sum(), list(learner.parameters()))
        for rows in (ours, plain)
    )
    for a, b in zip(own, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))
        assert float(b.abs().max()) > 0


@pytest.mark.parametrize(
    ("position", "classes", "batch"), [*product(PLACES, (None, 3), (256,)), ("middle", None, 2)]
)
def test_coop_rows_are_those_of_the_spelt_out_prompts(towers, position, classes, batch):
    torch.manual_seed(0)
    learner = CoOpLearner(width=128, n_ctx=5, classes=classes)
    torch.nn.init.normal_(learner.ctx)
    model = CoOp(towers, learner, NAMES, position=position, text_batch=batch)
    words = word_prompts(NAMES, n_ctx=5)
    embedded = towers.text.token_embedding(words.ids)
    rows = []
    for label, places in enumerate(PLACES[position]):
        ctx = learner.ctx if classes is None else learner.ctx[label]
        row = torch.cat([embedded[label, :1], ctx, embedded[label, 6:]])
        rows.append(row[places])
    prompts = torch.stack(rows)
    torch.testing.assert_close(model.prompts(), prompts)
    _assert_grads(model.text_features(), _plain(towers.text, prompts, words.ends), learner)


def test_fixed_words_stay_behind_the_vectors(towers):
    learner = CoOpLearner(width=128, n_ctx=2)
    model = CoOp(towers, learner, NAMES, template=PHOTO)
    ids = word_prompts(NAMES, template=PHOTO).ids
    expected = towers.text.token_embedding(ids)
    expected[:, 1:3] = learner.ctx.detach()
    torch.testing.assert_close(model.prompts(), expected)


@pytest.mark.parametrize("batch", [64, 4, 2])
def test_cocoop_rows_are_those_of_every_image_and_class(towers, batch):
    """Whatever stands beside what: all at once, one image at a time, two classes at a time."""
    torch.manual_seed(0)
    learner = CoCoOpLearner(width=128, dim=32, n_ctx=4)
    for parameter in learner.parameters():
        torch.nn.init.normal_(parameter)
    features = torch.randn(3, 32) * 20
    model = CoCoOp(towers, learner, NAMES, text_batch=batch)
    words = word_prompts(NAMES, n_ctx=4)
    embedded = towers.text.token_embedding(words.ids)
    plain = torch.stack(
        [_plain(towers.text, replace_words(embedded, c), words.ends) for c in learner(features)]
    )
    ours = model.text_features(features)
    assert ours.shape == (3, 3, 32)
    _assert_grads(ours, plain, learner)
    with torch.no_grad():
        torch.testing.assert_close(model.text_features(features), plain, rtol=1e-4, atol=1e-4)


def test_an_ensemble_is_the_mean_of_directions(towers):
    templates = (*ENSEMBLE, "a {}, a type of pet.")
    with torch.no_grad():
        rows = ZeroShot(towers, NAMES, templates=templates, text_batch=5).text_features()
        each = [ZeroShot(towers, NAMES, templates=[t]).text_features() for t in templates]
    expected = torch.stack([F.normalize(row, dim=-1) for row in each]).mean(0)
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------ recorded outputs


@pytest.fixture(scope="module")
def published(shared, fill) -> Towers:
    return recorded_text_side(shared, fill)


@pytest.fixture(scope="module")
def learnt(golden_state):
    """``learnt("coop")``: a learner's filled tensors."""

    def read(kind: str) -> dict[str, torch.Tensor]:
        state = golden_state(f"prompts_{kind}.keys.json")
        return {k.removeprefix("prompt_learner."): torch.from_numpy(v) for k, v in state.items()}

    return read


def _logits(model: Any, features: np.ndarray, texts: torch.Tensor) -> torch.Tensor:
    """Of recorded image features; CLIP's scale."""
    images = F.normalize(torch.from_numpy(features), dim=-1)
    texts = F.normalize(texts, dim=-1)
    pattern = "nd,cd->nc" if texts.ndim == 2 else "nd,ncd->nc"
    return model.logit_scale.exp() * torch.einsum(pattern, images, texts)


def _near(found: torch.Tensor, expected: np.ndarray, atol: float) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=atol)


def _assert_text(found: torch.Tensor, expected: np.ndarray) -> None:
    """Raw rows of length 20 to 30, and their directions."""
    _near(found, expected, 1e-4)
    unit = expected / np.linalg.norm(expected, axis=-1, keepdims=True)
    _near(F.normalize(found, dim=-1), unit, 2e-6)


def _assert_words(model: CoOp | CoCoOp | ZeroShot, tokens: np.ndarray) -> None:
    length = model.ids.shape[1]
    assert np.array_equal(model.ids.numpy(), tokens[:, :length])
    assert not tokens[:, length:].any()


def _assert_prompts(prompts: torch.Tensor, expected: np.ndarray, tower: ClipText) -> None:
    """Ours end with the longest prompt; theirs go on with padding."""
    length = prompts.shape[-2]
    _near(prompts[..., :4], expected[..., :length, :], 1e-6)
    padding = tower.token_embedding.weight[0, :4].expand(*expected[..., length:, :].shape)
    _near(padding, expected[..., length:, :], 1e-6)


def test_zero_shot_is_the_recorded_one(published, golden):
    expected = golden("prompts_coop.npz")
    model = ZeroShot(published, NAMES)
    _assert_words(model, expected["zeroshot.tokens"])
    texts = model.text_features()
    _assert_text(texts, expected["zeroshot.text_features"])
    _near(_logits(model, expected["zeroshot.image_features"], texts), expected["zeroshot.logits"],
          1e-6)  # fmt: skip


def test_coop_is_the_recorded_one(published, golden, learnt):
    expected = {k.removeprefix("coop.end16."): v for k, v in golden("prompts_coop.npz").items()}
    learner = CoOpLearner()
    load_strict(learner, learnt("coop"))
    model = CoOp(published, learner, NAMES)
    _assert_words(model, expected["tokens"])
    _assert_prompts(model.prompts(), expected["prompts_slice"], published.text)
    texts = model.text_features()
    _assert_text(texts, expected["text_features"])
    logits = _logits(model, expected["image_features"], texts)
    _near(logits, expected["logits"], 1e-6)
    loss = F.cross_entropy(logits, torch.tensor([0, 2]))
    _near(loss, expected["loss_labels_0_2"], 1e-6)
    gradient = torch.autograd.grad(loss, learner.ctx)[0]
    scale = float(np.abs(expected["ctx_grad"]).max())
    _near(gradient, expected["ctx_grad"], 1e-4 * scale)


def test_coop_of_words_is_zero_shot(published, golden):
    """Vectors that are the embeddings of "a photo of a": the recorded ones, and the same logits."""
    expected = {k.removeprefix("coop.init4."): v for k, v in golden("prompts_coop.npz").items()}
    learner = CoOpLearner(n_ctx=4)
    load_strict(learner, {"ctx": torch.from_numpy(expected["ctx"])})
    model = CoOp(published, learner, NAMES)
    spelt = CoOp(published, learner, NAMES, template=PHOTO)
    _assert_words(spelt, expected["tokens"])
    words = published.text.token_embedding(spelt.ids[0, 1:5])
    assert np.array_equal(words.detach().numpy(), expected["ctx"])
    for texts in (model.text_features(), spelt.text_features()):
        _assert_text(texts, expected["text_features"])
        _near(_logits(model, expected["image_features"], texts), expected["logits"], 1e-6)


def test_cocoop_is_the_recorded_one(published, golden, learnt):
    expected = {k.removeprefix("cocoop."): v for k, v in golden("prompts_cocoop.npz").items()}
    learner = CoCoOpLearner()
    load_strict(learner, learnt("cocoop"))
    model = CoCoOp(published, learner, NAMES)
    features = torch.from_numpy(expected["image_features"])
    contexts = learner(features)
    _near(contexts - learner.ctx, expected["meta_bias"][:, None].repeat(4, axis=1), 2e-6)
    words = published.text.token_embedding(model.ids)
    prompts = torch.stack([replace_words(words, context) for context in contexts])
    _assert_prompts(prompts, expected["prompts_slice"], published.text)
    texts = model.text_features(features)
    _assert_text(texts, expected["text_features"])
    _near(_logits(model, expected["image_features"], texts), expected["logits"], 1e-6)
