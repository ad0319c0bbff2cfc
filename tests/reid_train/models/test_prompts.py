"""Prompts of identities and parts; text rows and stage 1 against CLIP-ReID's own code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from pipeline.labels.sets import LABEL_SETS, LIP
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_strict
from reid_train.exchange.importers import import_checkpoint
from reid_train.losses.contrastive import SupCon
from reid_train.models.clip.text import ClipText
from reid_train.models.prompts import IdentityPrompts, IdentityTexts, fixed_parts, tokenise

NAMES = ("background", "left-arm", "jumpsuits", "face")


@pytest.fixture
def texts() -> IdentityTexts:
    torch.manual_seed(0)
    tower = ClipText(width=32, layers=2, heads=4, output_dim=16)
    torch.nn.init.normal_(tower.token_embedding.weight)
    return IdentityTexts(tower, IdentityPrompts(tower, 6), chunk=2)


def _read(ids: torch.Tensor) -> list[int]:
    row = ids.tolist()
    return row[: row.index(49407) + 1]


def test_tokens_are_those_of_clip():
    ids = tokenise(["A photo of a X X X X person.", "A photo of a X X X X person's left arm."])
    assert ids.shape == (2, 77) and ids.dtype == torch.int64
    opening = [49406, 320, 1125, 539, 320, 343, 343, 343, 343, 2533]
    assert _read(ids[0]) == [*opening, 269, 49407]
    assert _read(ids[1]) == [*opening, 568, 1823, 4793, 269, 49407]
    assert int(ids[0, 12:].abs().sum()) == 0


def test_a_text_that_does_not_fit_is_refused():
    assert int(tokenise(["a " * 75]).argmax()) == 76
    with pytest.raises(ReidpipeError, match="78 tokens.*at most 77"):
        tokenise(["short", "a " * 76])


def _ids_of(tower: ClipText, embedded: torch.Tensor) -> torch.Tensor:
    """The vocabulary entries whose embeddings these are."""
    return torch.cdist(embedded, tower.token_embedding.weight[None]).argmin(-1)


@pytest.mark.parametrize(("subject", "word"), [("person", 2533), ("vehicle", 5299)])
def test_identity_prompts_spell_the_template(texts, subject, word):
    tower = texts.text_encoder
    prompts = IdentityPrompts(tower, 3, subject=subject)
    embedded, ends = prompts(torch.tensor([2, 0]))
    assert embedded.shape == (2, 12, 32) and ends.tolist() == [11, 11]
    torch.testing.assert_close(embedded[:, 5:9], prompts.cls_ctx[[2, 0]])
    with torch.no_grad():
        assert _ids_of(tower, embedded)[0, :5].tolist() == [49406, 320, 1125, 539, 320]
        assert _ids_of(tower, embedded)[1, 9:].tolist() == [word, 269, 49407]
        assert _ids_of(tower, prompts.prefix(torch.tensor([1])))[0, 9:].tolist() == [word, 568]
    assert prompts.state_dict().keys() == {"cls_ctx", "token_prefix", "token_suffix"}
    assert prompts.token_suffix.shape == (1, 68, 32)
    assert [name for name, _ in prompts.named_parameters()] == ["cls_ctx"]


def test_context_is_drawn_small_and_its_length_can_differ():
    torch.manual_seed(0)
    tower = ClipText(width=32, layers=1, heads=4, output_dim=16)
    prompts = IdentityPrompts(tower, 400, tokens=7)
    assert prompts.cls_ctx.shape == (400, 7, 32)
    assert float(prompts.cls_ctx.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert prompts(torch.tensor([0])).ends.tolist() == [14]
    with pytest.raises(ReidpipeError, match="'dog'; expected person or vehicle"):
        IdentityPrompts(tower, 4, subject="dog")


@pytest.mark.parametrize("kind", sorted(LABEL_SETS))
def test_prefix_and_suffix_join_to_the_whole_sentence(texts, kind):
    tower, prompts = texts.text_encoder, texts.prompt_learner
    names = LABEL_SETS[kind].names
    suffixes, ends = prompts.part_suffixes(tower, names)
    spelt = [name.replace("-", " ") for name in names]
    ids = tokenise([f"A photo of a X X X X person's {name}." for name in spelt])
    prefix = prompts.prefix(torch.tensor([4]))
    assert prefix.shape == (1, 11, 32)
    assert torch.equal(ends + 11, ids.argmax(1))
    whole = tower.token_embedding(ids)
    whole[:, 5:9] = prompts.cls_ctx[4]
    joined = torch.cat([prefix.expand(len(names), -1, -1), suffixes], dim=1)
    assert torch.equal(joined, whole[:, : joined.shape[1]])


def test_end_tokens_of_the_lip_parts(texts):
    """Longer names end later: one end position for all would read the wrong row."""
    ends = texts.prompt_learner.part_suffixes(texts.text_encoder, LIP.names).ends + 11
    assert set(ends.tolist()) == {13, 14}
    assert {name for name, end in zip(LIP.names, ends.tolist(), strict=True) if end == 14} == {
        "upper-clothes", "jumpsuits", "left-arm", "right-arm", "left-leg", "right-leg",
        "left-shoe", "right-shoe",
    }  # fmt: skip


def test_fixed_parts_name_no_identity(texts):
    tower = texts.text_encoder
    embedded, ends = fixed_parts(tower, NAMES)
    sentences = [f"A photo of a person's {n}." for n in ("background", "left arm", "jumpsuits")]
    with torch.no_grad():
        rows = tower.encode(embedded, ends)
        torch.testing.assert_close(rows[:3], tower(tokenise(sentences)), atol=1e-5, rtol=0)


def test_rows_follow_labels_and_each_identity_is_encoded_once(texts):
    seen = []
    texts.text_encoder.ln_final.register_forward_hook(lambda _m, x, _y: seen.append(x[0].shape))
    labels = torch.tensor([4, 1, 4, 4, 0])
    rows = texts(labels)
    assert [tuple(shape[:2]) for shape in seen] == [(3, 1)]  # identities, positions at the end
    plain = torch.cat(
        [texts.text_encoder.encode(*texts.prompt_learner(n)) for n in labels[:, None]]
    )
    torch.testing.assert_close(rows, plain, rtol=0, atol=1e-5)
    weight = torch.randn(5, 16)
    grads = [
        torch.autograd.grad((r * weight).sum(), texts.prompt_learner.cls_ctx)[0]
        for r in (rows, plain)
    ]
    scale = float(grads[1].abs().max())
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-4 * scale)
    assert grads[0].abs().amax(dim=(1, 2)).gt(0).tolist() == [True, True, False, False, True, False]
    torch.testing.assert_close(texts.table(batch=4)[labels], rows, rtol=0, atol=1e-5)


def test_part_rows_are_those_of_the_sentences(texts):
    parts = texts.parts(torch.tensor([3, 0, 5, 3]), NAMES)
    assert parts.ids.tolist() == [0, 3, 5] and parts.rows.shape == (3, 4, 16)
    tower, prompts = texts.text_encoder, texts.prompt_learner
    words = [name.replace("-", " ") for name in NAMES]
    ids = tokenise([f"A photo of a X X X X person's {word}." for word in words])
    for row, identity in zip(parts.rows, parts.ids, strict=True):
        embedded = tower.token_embedding(ids)
        embedded[:, 5:9] = prompts.cls_ctx[identity]
        plain = tower.encode(embedded, ids.argmax(1))
        torch.testing.assert_close(row, plain, rtol=0, atol=1e-5)
    parts.rows.square().sum().backward()
    assert prompts.cls_ctx.grad is not None
    moved = prompts.cls_ctx.grad.abs().amax(dim=(1, 2)).gt(0)
    assert moved.tolist() == [True, False, False, True, False, True]
    table = texts.part_table(NAMES)
    assert table.shape == (6, 4, 16) and not table.requires_grad
    torch.testing.assert_close(table[parts.ids], parts.rows, rtol=0, atol=1e-5)


def test_loaded_weights_renew_the_words_of_the_template(texts):
    torch.manual_seed(1)
    tower = ClipText(width=32, layers=2, heads=4, output_dim=16)
    fresh = IdentityTexts(tower, IdentityPrompts(tower, 6))
    labels = torch.tensor([0, 5])
    expected, parts = texts(labels), texts.parts(labels, NAMES).rows
    for load in (lambda s: load_strict(fresh, s), fresh.load_state_dict):
        torch.nn.init.zeros_(tower.token_embedding.weight)
        fresh.prompt_learner.refresh(tower)
        load(texts.state_dict())
        assert torch.equal(fresh(labels), expected)
        assert torch.equal(fresh.parts(labels, NAMES).rows, parts)


# ------------------------------------------------------------------------------ recorded outputs


@pytest.fixture
def published(shared, fill):
    """``published("vit_b16", 512)``: text side of a rebuilt checkpoint, words of the template as
    filled (the authors' file overwrites them)."""

    def build(network: str, dim: int) -> IdentityTexts:
        layout = json.loads((shared / "golden" / f"clipreid_{network}.keys.json").read_text())
        state = {
            key: torch.from_numpy(fill.fill(key, tuple(shape), dtype))
            for key, (shape, dtype) in layout.items()
            if key.startswith(("prompt_learner.", "text_encoder."))
        }
        tower = ClipText(output_dim=dim)
        texts = IdentityTexts(tower, IdentityPrompts(tower, 751))
        load_strict(texts, state, optional=["text_encoder.token_embedding.weight"])
        texts.prompt_learner.token_prefix.copy_(state["prompt_learner.token_prefix"])
        texts.prompt_learner.token_suffix.copy_(state["prompt_learner.token_suffix"])
        return texts.requires_grad_(False)

    return build


@pytest.mark.parametrize(("network", "dim"), [("vit_b16", 512), ("rn50", 1024)])
def test_text_features_are_the_recorded_ones(network, dim, published, golden):
    expected = golden(f"clipreid_{network}.npz")
    texts = published(network, dim)
    tower, prompts = texts.text_encoder, texts.prompt_learner
    ids = torch.from_numpy(expected["text_ids"])
    cut = texts(ids)
    pieces = (prompts.token_prefix, prompts.cls_ctx[ids], prompts.token_suffix)
    whole = torch.cat([piece.expand(3, -1, -1) for piece in pieces], dim=1)  # 3,77,512
    x = tower.transformer(whole + tower.positional_embedding, attn_mask=tower.attn_mask)
    full = tower.ln_final(x)[:, 11] @ tower.text_projection
    torch.testing.assert_close(cut, full, rtol=0, atol=1e-5)
    for rows in (cut, full):
        np.testing.assert_allclose(rows, expected["text_features"], rtol=0, atol=1e-4)
    norms = texts(torch.arange(0, 751, 25)).norm(dim=1)
    np.testing.assert_allclose(norms, expected["text_matrix_norms"], rtol=1e-5)


def test_template_is_the_recorded_one(golden, fill):
    ids = torch.from_numpy(golden("clipreid_vit_b16.npz")["token_ids"])
    assert torch.equal(tokenise(["A photo of a X X X X person."]), ids)
    tower = ClipText(layers=1)
    filled = torch.from_numpy(fill.fill("token_embedding.weight", (49408, 512)))
    tower.token_embedding.weight = torch.nn.Parameter(filled)
    prompts = IdentityPrompts(tower, 1)
    assert torch.equal(prompts.token_prefix, filled[ids[:, :5]])
    assert torch.equal(prompts.token_suffix, filled[ids[:, 9:]])


@pytest.mark.slow
@pytest.mark.parametrize(("network", "dim"), [("vit_b16", 512), ("rn50", 1024)])
def test_stage_one_is_the_recorded_step(network, dim, published, golden, golden_state, fill):
    expected = golden(f"clipreid_{network}.npz")
    state = golden_state(f"clipreid_{network}.keys.json")
    state = {key: torch.as_tensor(value) for key, value in state.items()}
    pixels = np.stack([fill.image(str(n), (256, 128, 3)) for n in expected["train_image_names"]])
    model = import_checkpoint(state, "clip-reid").model.eval()
    with torch.no_grad():
        pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        images = model.features(pictures)["projected"]
    labels = torch.from_numpy(expected["train_labels"])
    texts = published(network, dim)
    context = texts.prompt_learner.cls_ctx.requires_grad_()
    rows = texts(labels)
    directions = ("image-to-text", "text-to-image")
    i2t, t2i = (SupCon(direction=name)(images, rows, labels) for name in directions)
    np.testing.assert_allclose(i2t.detach(), expected["stage1_i2t"], rtol=1e-4)
    np.testing.assert_allclose(t2i.detach(), expected["stage1_t2i"], rtol=1e-4)
    gradient = torch.autograd.grad(SupCon()(images, rows, labels), context)[0]
    recorded = expected["stage1_grad_cls_ctx"]
    chosen = gradient[[0, 7, 300, 750]][:, :, ::8].numpy()
    np.testing.assert_allclose(chosen, recorded, rtol=0, atol=1e-3 * np.abs(recorded).max())
    np.testing.assert_allclose(gradient.norm(), expected["stage1_grad_norm"], rtol=1e-3)


def test_a_frozen_tower_reads_the_first_words_once(texts, monkeypatch):
    tower, prompts = texts.text_encoder, texts.prompt_learner
    labels = torch.tensor([3, 1, 3])

    def rows_and_gradient():
        prompts.cls_ctx.grad = None
        rows = texts(labels)
        parts = texts.parts(labels, NAMES).rows
        (rows.square().sum() + parts.square().sum()).backward()
        return rows.detach(), parts.detach(), prompts.cls_ctx.grad

    learning = rows_and_gradient()
    times = []
    known = tower.keys_values
    monkeypatch.setattr(tower, "keys_values", lambda x: times.append(x.shape[1]) or known(x))
    tower.requires_grad_(False)
    for _ in range(2):
        for frozen, usual in zip(rows_and_gradient(), learning, strict=True):
            torch.testing.assert_close(frozen, usual, rtol=0, atol=0)
    assert times == [5]
    # Weights that are replaced are read again.
    with torch.no_grad():
        tower.positional_embedding[0, ::2] += 1
    changed = texts(labels)
    assert len(times) == 2
    tower.requires_grad_(True)
    torch.testing.assert_close(changed, texts(labels))
    assert not torch.allclose(changed, learning[0])
