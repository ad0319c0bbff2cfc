"""The text encoder: every shortcut against the plain pass over all positions."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.terminal.errors import ReidpipeError
from reid_train.models.clip.text import ClipText
from reid_train.models.pretrained import text_state

SMALL: dict[str, Any] = {
    "width": 32, "layers": 3, "heads": 4, "output_dim": 16, "vocabulary": 60,
}  # fmt: skip
END = 59


def _tower(**options) -> ClipText:
    torch.manual_seed(0)
    tower = ClipText(**{**SMALL, **options})
    with torch.no_grad():  # CLIP's initial scale leaves attention nearly uniform
        for name, value in tower.named_parameters():
            value.normal_(std=1.0 if "ln" not in name and value.ndim == 1 else 0.2)
    return tower


def _sentences(ends: list[int], same: int) -> torch.Tensor:
    """Ids with end tokens at ``ends`` and noise after them, the first ``same`` ids alike."""
    ids = torch.randint(1, END, (len(ends), 77), generator=torch.Generator().manual_seed(1))
    ids[:, :same] = ids[0, :same].clone()
    for row, end in zip(ids, ends, strict=True):
        row[end] = END
    return ids


def _joined(tower: ClipText, prefix, suffixes, ends) -> torch.Tensor:
    """What encode_shared promises, by encode on every pair."""
    count, parts = len(prefix), len(suffixes)
    rows = torch.cat(
        [
            prefix[:, None].expand(-1, parts, -1, -1),
            suffixes[None].expand(count, -1, -1, -1),
        ],
        dim=2,
    ).flatten(0, 1)
    at = (ends + prefix.shape[1]).repeat(count)
    return tower.encode(rows, at).unflatten(0, (count, parts))


@settings(max_examples=25, deadline=None)
@given(ends=st.lists(st.integers(4, 76), min_size=1, max_size=5), same=st.integers(0, 4))
def test_sentences_equal_the_plain_pass(ends, same):
    tower = _tower()
    ids = _sentences(ends, same)
    with torch.no_grad():
        plain = tower(ids)
        scale = float(plain.abs().max())
        torch.testing.assert_close(tower.encode_tokens(ids), plain, rtol=0, atol=1e-5 * scale)


def test_each_row_has_its_own_end_and_ignores_what_follows():
    tower = _tower()
    ids = _sentences([5, 9], same=3)
    embedded, ends = tower.token_embedding(ids)[:, :20], torch.tensor([5, 9])
    other = embedded.clone()
    other[0, 6:] = 7.0
    other[1, 10:] = -7.0
    rows = tower.encode(embedded, ends)
    torch.testing.assert_close(tower.encode(other, ends), rows)
    alone = torch.cat([tower.encode(embedded[i : i + 1], ends[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(alone, rows)
    assert not torch.allclose(tower.encode(embedded, torch.tensor([5, 8]))[1], rows[1])


def test_common_positions_keep_rows_and_gradients():
    tower = _tower()
    start, ends = torch.randn(1, 4, 32, requires_grad=True), torch.tensor([9, 7, 9])
    own = torch.randn(3, 6, 32, requires_grad=True)
    weight = torch.randn(3, 16)
    inputs = [start, own, *tower.parameters()]
    results = []
    for common in (0, 4):
        rows = tower.encode(torch.cat([start.expand(3, -1, -1), own], 1), ends, common=common)
        grads = torch.autograd.grad((rows * weight).sum(), inputs, allow_unused=True)
        results.append((rows, [g for g in grads if g is not None]))
    torch.testing.assert_close(results[0][0], results[1][0])
    for plain, shared in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(shared, plain, rtol=0, atol=1e-4 * float(plain.abs().max()))


def test_rows_that_differ_are_not_taken_for_common():
    tower = _tower()
    with pytest.raises(ValueError, match="differ within their first 3"):
        tower.encode(torch.randn(2, 6, 32), torch.tensor([5, 5]), common=3)


def test_ends_and_lengths_outside_are_refused():
    tower = _tower()
    with pytest.raises(ValueError, match="end token at 6 of 6"):
        tower.encode(torch.randn(1, 6, 32), torch.tensor([6]))
    with pytest.raises(ValueError, match="78 positions"):
        tower.encode(torch.randn(1, 78, 32), torch.tensor([5]))
    with pytest.raises(ValueError, match=r"75 \+ 3 positions"):
        tower.encode_shared(torch.randn(1, 75, 32), torch.randn(2, 3, 32), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="end token at 3 of the suffix"):
        tower.encode_shared(torch.randn(1, 5, 32), torch.randn(2, 3, 32), torch.tensor([3, 2]))


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "training"])
@pytest.mark.parametrize("chunk", [2, 16], ids=["in chunks", "at once"])
@pytest.mark.parametrize("common", [0, 3])
def test_shared_prefixes_equal_the_joined_rows(frozen, chunk, common):
    tower = _tower()
    if frozen:
        tower.requires_grad_(False)
    start = torch.randn(1, common, 32)
    own = torch.randn(5, 8 - common, 32, requires_grad=True)
    prefix = torch.cat([start.expand(5, -1, -1), own], dim=1)
    suffixes, ends = torch.randn(4, 6, 32), torch.tensor([2, 5, 3, 0])
    suffixes.requires_grad_(not frozen)
    rows = tower.encode_shared(prefix, suffixes, ends, common=common, chunk=chunk)
    plain = _joined(tower, prefix, suffixes, ends)
    assert rows.shape == (5, 4, 16)
    torch.testing.assert_close(rows, plain, rtol=0, atol=1e-5 * float(plain.detach().abs().max()))
    weight = torch.randn(5, 4, 16)
    inputs = [own] if frozen else [own, suffixes, *tower.parameters()]
    pairs = [
        torch.autograd.grad((r * weight).sum(), inputs, allow_unused=True) for r in (rows, plain)
    ]
    assert pairs[0][0].abs().max() > 0
    for ours, theirs in zip(*pairs, strict=True):
        if theirs is None:
            assert ours is None
            continue
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


def test_a_suffix_sees_its_prefix_and_no_other_suffix():
    tower = _tower()
    prefix = torch.randn(1, 4, 32, requires_grad=True)
    suffixes = torch.randn(3, 2, 32, requires_grad=True)
    rows = tower.encode_shared(prefix, suffixes, torch.tensor([1, 1, 1]))
    to_prefix, to_suffixes = torch.autograd.grad(rows[0, 1].sum(), [prefix, suffixes])
    assert bool((to_prefix.abs().amax(dim=(0, 2)) > 0).all())
    assert to_suffixes.abs().amax(dim=(1, 2)).gt(0).tolist() == [False, True, False]


def test_chunks_bound_the_activations_in_both_directions():
    tower = _tower().requires_grad_(False)
    prefix = torch.randn(9, 4, 32, requires_grad=True)
    suffixes, ends = torch.randn(3, 2, 32), torch.tensor([1, 1, 1])
    kept, widest = [], []
    for block in tower.transformer.resblocks:
        norm = block.get_submodule("ln_2")
        norm.register_forward_hook(lambda _module, x, _y: widest.append(len(x[0])))
    for chunk in (3, 9):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, saved=saved: (saved.append(x.numel()), x)[1], lambda x: x
        ):
            rows = tower.encode_shared(prefix, suffixes, ends, chunk=chunk)
        kept.append(sum(saved))
        widest.clear()
        rows.sum().backward()
        assert widest == ([3] * 9 if chunk == 3 else [])  # three chunks of three blocks, once more
    assert kept[0] < kept[1] / 10


def test_half_precision_stays_close():
    tower = _tower().requires_grad_(False)
    prefix, suffixes = torch.randn(3, 4, 32, requires_grad=True), torch.randn(2, 2, 32)
    ends = torch.tensor([1, 0])
    full = tower.encode_shared(prefix, suffixes, ends, chunk=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = tower.encode_shared(prefix, suffixes, ends, chunk=2)
    half.float().sum().backward()
    assert half.dtype == torch.bfloat16 and prefix.grad is not None
    assert float((half - full).detach().norm() / full.detach().norm()) < 0.03


def _file(tmp_path, tower, **extra):
    state = {**tower.state_dict(), "logit_scale": torch.tensor(4.6), "visual.proj": torch.ones(2)}
    torch.save({**state, **extra}, tmp_path / "clip.pt")
    return str(tmp_path / "clip.pt")


def test_names_are_those_of_published_files(tmp_path):
    tower = _tower()
    tops = {".".join(name.split(".")[:2]) for name in tower.state_dict()}
    assert tops == {
        "token_embedding.weight", "positional_embedding", "text_projection",
        "transformer.resblocks", "ln_final.weight", "ln_final.bias",
    }  # fmt: skip
    file = _file(tmp_path, tower)
    assert set(text_state(file, "ViT-B-16")) == set(tower.state_dict())
    loaded = ClipText(**SMALL, pretrained=file)
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, tower.state_dict()[key]), key


def test_files_without_a_text_tower_are_refused(tmp_path):
    torch.save({"visual.proj": torch.ones(2)}, tmp_path / "visual.pt")
    with pytest.raises(ReidpipeError, match="token_embedding.weight"):
        ClipText(**SMALL, pretrained=str(tmp_path / "visual.pt"))
    file = _file(tmp_path, _tower())
    with pytest.raises(ReidpipeError, match="text_projection"):
        ClipText(**{**SMALL, "output_dim": 8}, pretrained=file)


def test_full_size_has_the_published_layout(shared):
    layout = json.loads((shared / "golden" / "prompts_clip_vitb16.keys.json").read_text())
    expected = {
        key: tuple(shape)
        for key, (shape, _) in layout.items()
        if not key.startswith("visual.") and key != "logit_scale"
    }
    with torch.device("meta"):
        tower = ClipText()
    assert {key: tuple(value.shape) for key, value in tower.state_dict().items()} == expected
