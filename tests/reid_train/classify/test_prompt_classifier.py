"""``load_prompt_classifier``: what it reads, refuses and keeps."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, VisionTransformer
from safetensors.torch import save_file

import reid_train
from pipeline.terminal.errors import ReidpipeError
from reid_train.classify.classifier import count_learner, load_prompt_classifier
from reid_train.models.clip.classifier import ClipClassifier
from reid_train.models.clip.text import ClipText
from reid_train.models.learners import CoCoOpLearner, CoOpLearner
from reid_train.models.maple import MapleLearner
from tests.reid_train.models.small_clip import NAMES, pictures, small_clip, small_state

LEARNERS = ("coop", "cocoop", "maple")


def _load(kind: str, class_names: Any = NAMES, **options: Any) -> ClipClassifier:
    state = options.pop("clip", None) or small_state()
    if kind == "maple" and options.get("learner") is None:
        options.setdefault("depth", 3)
    return load_prompt_classifier(kind, clip=state, class_names=class_names, **options)


def _learnt(kind: str, seed: int = 0, **sizes: Any) -> dict[str, torch.Tensor]:
    """A learner's state, large enough to move logits."""
    torch.manual_seed(seed)
    learner = {
        "coop": lambda: CoOpLearner(width=128, **{"n_ctx": 5, **sizes}),
        "cocoop": lambda: CoCoOpLearner(width=128, dim=32, **{"n_ctx": 3, **sizes}),
        "maple": lambda: MapleLearner(width=128, image_width=64, **{"depth": 4, **sizes}),
    }[kind]()
    for parameter in learner.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return learner.state_dict()


@torch.no_grad()
def _logits(model: ClipClassifier, count: int = 4) -> torch.Tensor:
    return model(pictures(count))


# ------------------------------------------------------------------------------- what it computes


def test_zero_shot_is_open_clips():
    model = _load("zero-shot")
    assert not model.training and model.input_size == (64, 64)
    reference = small_clip()
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    images = (pictures(4) - mean) / std
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
    with torch.no_grad():
        rows = reference.encode_text(open_clip.SimpleTokenizer()(texts), normalize=True)
        features = reference.encode_image(images, normalize=True)
    expected = reference.logit_scale.exp() * features @ rows.T
    torch.testing.assert_close(_logits(model), expected, rtol=0, atol=1e-5)
    assert float(expected.std()) > 0.1


def test_the_package_exports_it():
    assert reid_train.load_prompt_classifier is load_prompt_classifier


@pytest.mark.parametrize("kind", ["coop", "cocoop"])
def test_words_as_vectors_are_zero_shot(kind):
    """The Meta-Net switched off, so both kinds say "a photo of a"."""
    model = _load(kind, template="a photo of a {}.")
    assert model.prompt_learner.ctx.shape == (4, 128)
    if kind == "cocoop":
        torch.nn.init.zeros_(model.prompt_learner.meta_net[2].weight)
        torch.nn.init.zeros_(model.prompt_learner.meta_net[2].bias)
    torch.testing.assert_close(_logits(model), _logits(_load("zero-shot")), rtol=0, atol=1e-5)


def test_templates_of_maple():
    learner = _learnt("maple")
    words = _load("maple", learner=learner)
    spelt = _load("maple", learner=learner, template="a photo of a {}.")
    assert words.ids[0, 3:6].tolist() == [539, 320, 2368]  # "of a cat"
    assert torch.equal(_logits(words), _logits(spelt))
    crossed = _load("maple", learner=learner, template=None)
    assert crossed.ids[0, :4].tolist() == [49406, 343, 343, 2368]
    # more vectors than "a photo of a" has words: the authors turn to placeholders too
    long = _load("maple", learner=_learnt("maple", n_ctx=5))
    assert long.ids[0, :7].tolist() == [49406, *[343] * 5, 2368]
    with pytest.raises(ReidpipeError, match="5 learnt vectors for the 4 words"):
        _load("maple", learner=_learnt("maple", n_ctx=5), template="a photo of a {}.")


def test_untrained_maple_starts_as_its_first_words():
    model = _load("maple")
    words = model.text_encoder.token_embedding(torch.tensor([320, 1125]))  # "a photo"
    assert torch.equal(model.prompt_learner.ctx.detach(), words)
    drawn = _load("maple", template=None).prompt_learner.ctx
    assert 0.01 < float(drawn.detach().std()) < 0.03


def test_an_untrained_learner_has_the_authors_sizes():
    assert _load("coop").prompt_learner.ctx.shape == (16, 128)
    assert _load("cocoop").prompt_learner.ctx.shape == (4, 128)
    assert _load("maple").prompt_learner.ctx.shape == (2, 128)
    assert _load("coop", n_ctx=3, class_specific=True).prompt_learner.ctx.shape == (3, 3, 128)
    assert _load("maple", depth=4).prompt_learner.depth == 4


@pytest.mark.parametrize("kind", LEARNERS)
def test_draws_follow_the_seed_and_nothing_else(kind):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (_load(kind, template=None, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.prompt_learner.ctx, again.prompt_learner.ctx)
    assert not torch.equal(first.prompt_learner.ctx, other.prompt_learner.ctx)
    assert torch.equal(_logits(first), _logits(again))


# ------------------------------------------------------------------------------- what it reads


@pytest.mark.parametrize("kind", LEARNERS)
def test_learners_are_read_under_every_name(kind, tmp_path):
    plain = _learnt(kind)
    prefixed = {f"prompt_learner.{key}": value for key, value in plain.items()}
    stale = {"token_prefix": torch.zeros(9, 1, 512), "token_suffix": torch.zeros(9, 72, 512)}
    save_file(plain, tmp_path / "plain.safetensors")
    saved = {"state_dict": {**plain, **stale}, "epoch": 5, "val_result": None}
    torch.save(saved, tmp_path / "model.pth.tar-5")
    expected = _logits(_load(kind, learner=plain))
    sources = [
        prefixed,
        {**plain, **stale},
        {**prefixed, **{f"prompt_learner.{key}": value for key, value in stale.items()}},
        {f"module.{key}": value for key, value in prefixed.items()},
        tmp_path / "plain.safetensors",
        str(tmp_path / "model.pth.tar-5"),
        {key: value.double() for key, value in plain.items()},
    ]
    for source in sources:
        assert torch.equal(_logits(_load(kind, learner=source)), expected)
    assert not torch.equal(_logits(_load(kind, learner=_learnt(kind, seed=1))), expected)


def test_sizes_are_the_files():
    specific = _load("coop", learner=_learnt("coop", classes=3, n_ctx=2))
    assert specific.prompt_learner.ctx.shape == (3, 2, 128)
    assert _load("maple", learner=_learnt("maple", depth=1)).prompt_learner.depth == 1
    wide = _load("cocoop", learner=_learnt("cocoop", hidden=7))
    assert wide.prompt_learner.meta_net[0].weight.shape == (7, 32)
    with pytest.raises(ReidpipeError, match="n_ctx=4 and a learner with 5 "):
        _load("coop", learner=_learnt("coop"), n_ctx=4)
    with pytest.raises(ReidpipeError, match="depth=9 and a learner with 4 "):
        _load("maple", learner=_learnt("maple"), depth=9)
    with pytest.raises(ReidpipeError, match="class_specific=True and a learner with False "):
        _load("coop", learner=_learnt("coop"), class_specific=True)


def _whole_model(learner: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the authors save MaPLe: everything but the token embedding, towers in half precision."""
    state = {f"prompt_learner.{key}": value for key, value in learner.items()}
    for key, value in small_state().items():
        if key == "logit_scale":
            state[key] = value
        elif key.startswith("visual."):
            state[f"image_encoder.{key.removeprefix('visual.')}"] = value.half()
        elif not key.startswith("token_embedding."):
            state[f"text_encoder.{key}"] = value.half()
    return state


def test_a_whole_model_is_a_learner_of_the_same_clip():
    learner = _learnt("maple")
    whole = _whole_model(learner)
    expected = _logits(_load("maple", learner=learner))
    assert torch.equal(_logits(_load("maple", learner=whole)), expected)
    for key in ("image_encoder.conv1.weight", "text_encoder.ln_final.bias", "logit_scale"):
        with pytest.raises(ReidpipeError, match=f"found '{key}'.*not the given CLIP's"):
            _load("maple", learner={**whole, key: whole[key] + 0.5})
    with pytest.raises(ReidpipeError, match="found 'image_encoder.extra'"):
        _load("maple", learner={**whole, "image_encoder.extra": torch.zeros(1)})


def test_a_file_of_clip_is_read_in_any_precision(tmp_path):
    halved = {key: value.half() for key, value in small_state().items()}
    halved["input_resolution"] = torch.tensor(64)
    save_file(halved, tmp_path / "clip.safetensors")
    rounded = {key: value.half().float() for key, value in small_state().items()}
    expected = _logits(_load("zero-shot", clip=rounded))
    for source in (halved, str(tmp_path / "clip.safetensors"), {"state_dict": halved}):
        assert torch.equal(_logits(_load("zero-shot", clip=source)), expected)


def test_heads_can_be_told():
    model: Any = _load("zero-shot", image_heads=4, text_heads=8)
    assert model.image_encoder.transformer.resblocks[0].attn.num_heads == 4
    assert model.text_encoder.transformer.resblocks[0].attn.num_heads == 8
    assert not torch.equal(_logits(model), _logits(_load("zero-shot")))
    with pytest.raises(ReidpipeError, match="3 attention heads for width 64"):
        _load("zero-shot", image_heads=3)


# ----------------------------------------------------------------------------- what it refuses


def test_unknown_words_name_the_nearest():
    with pytest.raises(ReidpipeError, match="kind 'cocop' .did you mean 'cocoop'"):
        _load("cocop")
    with pytest.raises(ReidpipeError, match="option 'positon' for coop .did you mean 'position'"):
        _load("coop", positon="end")
    with pytest.raises(ReidpipeError, match="option 'depth' for coop"):
        _load("coop", depth=3)
    with pytest.raises(ReidpipeError, match="position 'front' for cocoop; expected 'end'"):
        _load("cocoop", position="front")
    for kind, option, value in (
        ("zero-shot", "template", None),
        ("coop", "n_ctx", "4"),
        ("coop", "class_specific", 1),
        ("maple", "depth", 0),
        ("cocoop", "seed", -1),
        ("zero-shot", "text_batch", 0),
    ):
        with pytest.raises(ReidpipeError, match=f"found {option}={value!r} for {kind}; expected"):
            _load(kind, **{option: value})
    with pytest.raises(ReidpipeError, match="kind 'cop'"):
        count_learner("cop")


def test_learners_that_do_not_fit_are_refused():
    with pytest.raises(ReidpipeError, match="a learner for zero-shot"):
        _load("zero-shot", learner=_learnt("coop"))
    with pytest.raises(ReidpipeError, match="no 'ctx'"):
        _load("coop", learner={"meta_net.linear1.weight": torch.zeros(2, 32)})
    with pytest.raises(ReidpipeError, match="unknown keys, first 'meta_net"):
        _load("coop", learner=_learnt("cocoop"))
    with pytest.raises(ReidpipeError, match="missing keys, first 'meta_net"):
        _load("cocoop", learner=_learnt("coop"))
    with pytest.raises(ReidpipeError, match=r"'ctx' \(16, 512\) instead of \(16, 128\)"):
        _load("coop", learner={"ctx": torch.zeros(16, 512)})
    with pytest.raises(ReidpipeError, match="prompts for 5 blocks and towers of 6 and 4"):
        _load("maple", depth=5)
    with pytest.raises(ReidpipeError, match="words make all classes alike"):
        _load("coop", class_specific=True, template="a photo of a {}.")


def test_class_specific_vectors_serve_no_other_classes():
    learner = _learnt("coop", classes=3)
    model = _load("coop", learner=learner)
    message = "2 class names and vectors learnt for 3 classes"
    with pytest.raises(ReidpipeError, match=message):
        _load("coop", ["a", "b"], learner=learner)
    with pytest.raises(ReidpipeError, match=message):
        model.name_classes(["a", "b"])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("visual.class_embedding", "no 'visual.class_embedding'.*expected a CLIP with a ViT"),
        ("token_embedding.weight", "no 'token_embedding.weight'"),
        ("logit_scale", "no scalar 'logit_scale'"),
        ("ln_final.bias", "missing keys, first 'ln_final.bias'"),
        ("visual.transformer.resblocks.5.ln_2.bias", "first 'transformer.resblocks.5.ln_2.bias'"),
    ],
)
def test_an_incomplete_clip_is_refused(key, message):
    state = small_state()
    del state[key]
    with pytest.raises(ReidpipeError, match=message):
        _load("zero-shot", clip=state)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("visual.positional_embedding", torch.zeros(129, 64), "129 positions.*square grid"),
        ("token_embedding.weight", torch.zeros(100, 128), "vocabulary of 100 tokens"),
        ("extra", torch.zeros(1), "unknown keys, first 'extra'"),
    ],
)
def test_another_clip_is_refused(key, value, message):
    with pytest.raises(ReidpipeError, match=message):
        _load("zero-shot", clip={**small_state(), key: value})


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="this model takes N,3,64,64"):
        _load("zero-shot")(torch.rand(1, 3, 224, 224))


# -------------------------------------------------------------------------------- what it keeps


def _count_texts(model: ClipClassifier) -> list[int]:
    calls: list[int] = []
    model.text_encoder.ln_final.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("kind", ["zero-shot", "coop", "maple"])
def test_texts_are_computed_once_while_nothing_changes(kind):
    model = _load(kind)
    calls = _count_texts(model)
    with torch.inference_mode():
        first = model(pictures(2)).clone()
    assert torch.equal(_logits(model, 2), first) and len(calls) == 1
    model.name_classes(["dog", "cat"])
    renamed = _logits(model)
    assert renamed.shape == (4, 2) and len(calls) == 2
    fresh = _load(kind, ["dog", "cat"])
    torch.testing.assert_close(renamed, _logits(fresh), rtol=0, atol=1e-5)
    model.double()
    assert model(pictures(1).double()).dtype == torch.float64 and len(calls) == 3


@pytest.mark.parametrize("kind", ["coop", "maple"])
def test_a_changed_learner_changes_the_texts(kind):
    model = _load(kind)
    before = _logits(model)
    other = _learnt(kind, depth=3) if kind == "maple" else _learnt(kind, n_ctx=16)
    model.prompt_learner.load_state_dict(other)
    changed = _logits(model)
    assert not torch.equal(changed, before)
    torch.testing.assert_close(changed, _logits(_load(kind, learner=other)), rtol=0, atol=1e-5)
    optimiser = torch.optim.SGD(model.prompt_learner.parameters(), lr=1.0)
    model(pictures(2)).square().sum().backward()  # in eval mode, with gradients: nothing is kept
    optimiser.step()
    assert not torch.equal(_logits(model), changed)


@pytest.mark.parametrize("kind", LEARNERS)
def test_the_same_object_trains(kind):
    model = _load(kind).train()
    frozen = {k: v.clone() for k, v in model.state_dict().items() if "prompt_learner" not in k}
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trainable and all(name.startswith("prompt_learner.") for name in trainable)
    images, labels = pictures(6), torch.tensor([0, 1, 2, 0, 1, 2])
    optimiser = torch.optim.Adam(model.prompt_learner.parameters(), lr=0.02)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0], losses
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in frozen.items())
    learner = model.prompt_learner.state_dict()
    torch.testing.assert_close(
        _logits(_load(kind, learner=learner)), _logits(model.eval()), rtol=0, atol=1e-5
    )


# ---------------------------------------------------------------------------------------- counts


def test_numbers_that_train_are_the_published_ones():
    """Table 2.6's 2,048, 35,360 and 3.55 M; MaPLe is linear in its depth."""
    assert count_learner("zero-shot") == 0
    assert count_learner("coop") == 16 * 512
    assert count_learner("coop", n_ctx=4) == 2_048
    assert count_learner("coop", n_ctx=4, classes=10) == 20_480
    assert count_learner("cocoop") == 35_360
    assert count_learner("maple") == 3_555_072
    for depth, count in ((1, 395_008), (3, 1_185_024), (12, 4_740_096)):
        assert count_learner("maple", depth=depth) == count


def test_share_of_the_whole_model():
    """Of everything but the token embedding, as the table counts."""
    with torch.device("meta"):
        image = VisionTransformer(224, 16, 768, 12, 12, 4.0, act_layer=QuickGELU)
        towers = [image, ClipText()]
    whole = 1 + sum(p.numel() for tower in towers for p in tower.parameters())
    assert whole == 149_620_737
    rest = whole - 49408 * 512
    assert rest == 124_323_841
    percent = {kind: 100 * count_learner(kind, n_ctx=n) / rest
               for kind, n in (("coop", 4), ("cocoop", 4), ("maple", 2))}  # fmt: skip
    assert [f"{percent[kind]:.2g}" for kind in LEARNERS] == ["0.0016", "0.028", "2.9"]
    assert f"{percent['maple']:.2f}" == "2.86"


@pytest.mark.parametrize("kind", LEARNERS)
def test_counts_are_those_of_the_loaded_model(kind):
    model = _load(kind)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == count_learner(kind, width=128, image_width=64, dim=32, depth=3)
