"""Losses between parts and texts: by hand, against plain loops, and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.labels.sets import IGNORE
from reid_train.data.cells import Cells, pool, sample
from reid_train.losses.contrastive import SupCon
from reid_train.losses.dense import PartAlignment, PartContrast, confidence_weights

seeds = st.integers(0, 2**31)


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _people(seed, *, images=5, parts=4, dim=6, identities=3, absent=0.3):
    """Random pooled parts, some absent, texts, and identities that all occur."""
    generator = _generator(seed)
    visual = torch.randn(images, parts, dim, generator=generator)
    counts = torch.randint(1, 9, (images, parts), generator=generator).float()
    counts[torch.rand(images, parts, generator=generator) < absent] = 0
    text = torch.randn(identities, parts, dim, generator=generator)
    identity = torch.arange(images) % identities
    return visual, counts, text, identity[torch.randperm(images, generator=generator)]


def _naive_contrast(visual, counts, text, identity, *, temperature, by_pixels, one_positive):
    """The equations as loops over anchors, rows repeated by their weight being sums of weights."""
    rows = []  # (feature, weight, text it belongs to)
    for n, p in torch.nonzero(counts).tolist():
        weight = counts[n, p].item() if by_pixels else 1.0
        rows.append((F.normalize(visual[n, p], dim=0), weight, (int(identity[n]), p)))
    texts = {key: F.normalize(text[key], dim=0) for key in {row[2] for row in rows}}

    def e(v, t):
        return math.exp((v @ t).item() / temperature)

    i2t = 0.0
    for v, weight, own in rows:
        i2t -= weight * math.log(e(v, texts[own]) / sum(e(v, t) for t in texts.values()))
    t2i, total = 0.0, 0.0
    for own, t in texts.items():
        positives = [(v, w) for v, w, key in rows if key == own]
        others = sum(w * e(v, t) for v, w, key in rows if key != own)
        together = sum(w for _, w in positives)
        value = 0.0
        for v, w in positives:
            denominator = others + (
                e(v, t) if one_positive else sum(u * e(x, t) for x, u in positives)
            )
            value -= w / together * math.log(e(v, t) / denominator)
        t2i += (together if by_pixels else 1) * value
        total += together if by_pixels else 1
    return i2t / sum(w for _, w, _ in rows) + t2i / total


def test_contrast_by_hand():
    # one part, two people with one image each, raw products: v0.t0 = log 3, v1.t1 = log 2, else 0
    visual = torch.tensor([[[math.log(3), 0.0]], [[0.0, math.log(2)]]])
    text = torch.eye(2)[:, None]  # U,P,D = 2,1,2
    identity, raw = torch.arange(2), {"normalise": False, "temperature": 1.0}
    counts = torch.tensor([[3.0], [1.0]])
    # image to text: 3/(3+1) three times, 2/(2+1) once; text to image: 3 cells of the first image
    # against one of the second: (3)/(9+1) three times; 2/(2+3) once
    i2t = -(3 * math.log(3 / 4) + math.log(2 / 3)) / 4
    t2i = -(3 * math.log(3 / 10) + math.log(2 / 5)) / 4
    assert PartContrast(**raw)(visual, counts, text, identity).item() == pytest.approx(i2t + t2i)
    equal = PartContrast(**raw, by_pixels=False)(visual, counts, text, identity)
    expected = -(math.log(3 / 4) + math.log(2 / 3)) / 2 * 2
    assert equal.item() == pytest.approx(expected)
    # one positive at a time: the anchor's cell against one other cell; 3/(3+1), 2/(2+3)
    single = PartContrast(**raw, one_positive=True)(visual, counts, text, identity)
    assert single.item() == pytest.approx(i2t - (3 * math.log(3 / 4) + math.log(2 / 5)) / 4)


@pytest.mark.parametrize("one_positive", [False, True])
@pytest.mark.parametrize("by_pixels", [False, True])
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_contrast_equals_the_loops(one_positive, by_pixels, seed):
    options = {"temperature": 0.5, "by_pixels": by_pixels, "one_positive": one_positive}
    people = _people(seed)
    people[1][0, 0] = 1  # never nothing at all
    value = PartContrast(**options)(*people)
    assert value.item() == pytest.approx(_naive_contrast(*people, **options), rel=1e-4)


def test_contrast_of_one_part_is_supcon():
    visual, counts, text, identity = _people(9, parts=1, absent=0)
    loss = PartContrast(temperature=0.2, by_pixels=False)(visual, counts, text, identity)
    supcon = SupCon(temperature=0.2, normalise=True)
    expected = supcon(visual[:, 0], text[:, 0], identity, torch.arange(3))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("one_positive", [False, True])
def test_pooled_rows_stand_for_that_many_equal_cells(one_positive):
    visual, counts, text, identity = _people(4)
    loss = PartContrast(one_positive=one_positive)
    spread = visual[:, :, None].expand(-1, -1, 8, -1)
    ones = (torch.arange(8) < counts[..., None]).float()
    torch.testing.assert_close(
        loss(spread, ones, text, identity), loss(visual, counts, text, identity)
    )


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_contrast_ignores_the_order_of_images_and_identities(seed):
    visual, counts, text, identity = _people(seed)
    loss, generator = PartContrast(), _generator(seed)
    images = torch.randperm(len(visual), generator=generator)
    names = torch.randperm(len(text), generator=generator)
    moved = loss(visual[images], counts[images], text[names], names.argsort()[identity[images]])
    torch.testing.assert_close(moved, loss(visual, counts, text, identity))
    parts = torch.randperm(visual.shape[1], generator=generator)
    swapped = loss(visual[:, parts], counts[:, parts], text[:, parts], identity)
    torch.testing.assert_close(swapped, loss(visual, counts, text, identity))


def test_contrast_trains_only_what_is_there():
    visual, counts, text, identity = _people(1)
    counts[:, 2] = 0
    counts[0, 1] = 0
    visual.requires_grad_()
    text.requires_grad_()
    PartContrast()(visual, counts, text, identity).backward()
    assert visual.grad is not None and text.grad is not None
    assert torch.equal(visual.grad.abs().sum(2) > 0, counts > 0)
    present = torch.zeros(3, 4).index_add(0, identity, counts) > 0
    assert torch.equal(text.grad.abs().sum(2) > 0, present)


def test_contrast_without_background_does_not_see_it():
    visual, counts, text, identity = _people(2)
    value = PartContrast(ignore_background=True)(visual, counts, text, identity)
    without = PartContrast()(visual[:, 1:], counts[:, 1:], text[:, 1:], identity)
    torch.testing.assert_close(value, without)
    assert not torch.isclose(value, PartContrast()(visual, counts, text, identity))


@pytest.mark.parametrize("one_positive", [False, True])
@pytest.mark.parametrize("count", [0.0, 4.0])
def test_contrast_without_negatives_has_no_gradient(one_positive, count):
    visual = torch.randn(2, 3, 4, generator=_generator(0)).requires_grad_()
    text = torch.randn(2, 3, 4, generator=_generator(1)).requires_grad_()
    counts = torch.tensor([[0, count, 0], [0, 0, 0]])
    value = PartContrast(one_positive=one_positive)(visual, counts, text, torch.arange(2))
    value.backward()
    # the floor of the SupCon form: four positives that share one denominator
    floor = math.log(4) if count and not one_positive else 0
    assert value.item() == pytest.approx(floor, abs=1e-6)
    for leaf in (visual, text):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, torch.zeros_like(leaf), atol=1e-5, rtol=0)


def test_contrast_on_sampled_cells_reaches_the_features():
    features = torch.randn(4, 6, 4, 3, generator=_generator(0)).requires_grad_()
    labels = torch.randint(0, 3, (4, 4, 3), generator=_generator(1))
    cells, text = Cells(labels, torch.ones(4, 4, 3)), torch.randn(2, 3, 6, generator=_generator(2))
    identity, loss = torch.tensor([0, 0, 1, 1]), PartContrast(temperature=0.3)
    rows, weights = sample(features, cells, 3, pixels=2, generator=_generator(3))
    loss(rows, weights, text, identity).backward()
    assert features.grad is not None
    assert torch.equal((features.grad.abs().sum(1) > 0).sum((1, 2)), (weights > 0).sum((1, 2)))
    # all cells taken: every cell is a row, none weighs more than another
    rows, weights = sample(features, cells, 3, pixels=12, generator=_generator(3))
    assert set(weights.flatten().tolist()) == {0.0, 1.0}
    same = loss(*pool(features * 0 + text[0, 0, :, None, None], cells, 3), text, identity)
    alike = loss(text[0, 0].expand(4, 3, 12, 6), weights, text, identity)
    torch.testing.assert_close(alike, same)


def test_contrast_is_float32_under_autocast_and_survives_large_products():
    visual, counts, text, identity = _people(3)
    loss = PartContrast(normalise=False, temperature=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(30 * visual, counts, 30 * text, identity)
    assert torch.isfinite(inside) and torch.equal(
        inside, loss(30 * visual, counts, 30 * text, identity)
    )


# ---- alignment


def _dense(seed, *, images=3, parts=4, dim=5, grid=(4, 3), ignored=0.3):
    generator = _generator(seed)
    fused = torch.randn(images, dim, *grid, generator=generator)
    labels = torch.randint(0, parts, (images, *grid), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = IGNORE
    labels[:, 0, 0] = 1  # never nothing at all
    confidence = torch.rand(labels.shape, generator=generator)
    return fused, Cells(labels, confidence), torch.randn(images, parts, dim, generator=generator)


def _naive_alignment(fused, cells, text, *, normalise, reduction, confidence, temperature=1.0):
    """The text map in full, ||v - t||^2, cell by cell."""
    total = fused.new_zeros(())
    for n in range(len(fused)):
        counted = cells.labels[n] != IGNORE
        v, t = fused[n, :, counted].T, text[n, cells.labels[n][counted]]
        if normalise:
            v, t = F.normalize(v, dim=1), F.normalize(t, dim=1)
        squares = (v - t).square()
        squares = squares.sum(1) if reduction == "sum" else squares.mean(1)
        weights = torch.full_like(squares, 1 / len(squares))
        if confidence:
            weights = (cells.confidence[n][counted] / temperature).softmax(0)
        total = total + (weights * squares).sum()
    return total / len(fused)


def test_alignment_by_hand():
    # two images of two cells, D = 2
    fused = torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]], [[[2.0, 5.0]], [[0.0, 5.0]]]])
    text = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[0.0, 1.0], [7.0, 7.0]]])
    cells = Cells(
        torch.tensor([[[0, 1]], [[0, IGNORE]]]), torch.tensor([[[math.log(3), 0.0]], [[0.1, 0.9]]])
    )
    # image 0: (1,0)-(1,0) = 0 and (3,4)-(0,2): 9+4; image 1: (2,0)-(0,1): 4+1
    raw = PartAlignment(normalise=False)
    assert raw(fused, cells, text).item() == pytest.approx((13 / 2 + 5) / 2)
    mean = PartAlignment(normalise=False, reduction="mean")
    assert mean(fused, cells, text).item() == pytest.approx((13 / 2 + 5) / 4)
    # directions: 0 and (.6,.8)-(0,1): .36+.04; (1,0)-(0,1): 2
    assert PartAlignment()(fused, cells, text).item() == pytest.approx((0.4 / 2 + 2) / 2)
    # e^log 3 : e^0 = 3 : 1
    sure = PartAlignment(normalise=False, confidence=True)
    assert sure(fused, cells, text).item() == pytest.approx((13 / 4 + 5) / 2)
    cold = PartAlignment(normalise=False, confidence=True, temperature=0.5)  # 9 : 1
    assert cold(fused, cells, text).item() == pytest.approx((13 / 10 + 5) / 2)
    # background is label 0: one cell is left, and one image
    bare = PartAlignment(normalise=False, ignore_background=True)
    assert bare(fused, cells, text).item() == pytest.approx(13)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("confidence", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_alignment_equals_the_full_text_map(normalise, confidence, reduction, seed):
    fused, cells, text = _dense(seed)
    options = {"normalise": normalise, "confidence": confidence, "reduction": reduction}
    leaf, other = fused.clone().requires_grad_(), fused.clone().requires_grad_()
    value = PartAlignment(**options)(leaf, cells, text)
    expected = _naive_alignment(other, cells, text, **options)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    value.backward()
    expected.backward()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_alignment_never_holds_the_text_map():
    fused, cells, text = _dense(0, images=2, parts=3, dim=64, grid=(8, 8))
    fused.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        PartAlignment(confidence=True)(fused, cells, text)
    large = [x for x in kept if x.numel() >= fused.numel()]
    assert large and {x.untyped_storage().data_ptr() for x in large} == {
        fused.untyped_storage().data_ptr()
    }


def test_alignment_trains_counted_cells_and_no_text():
    fused, cells, text = _dense(0)
    fused.requires_grad_()
    text.requires_grad_()
    PartAlignment()(fused, cells, text).backward()
    assert text.grad is None and fused.grad is not None
    assert torch.equal(fused.grad.abs().sum(1) > 0, cells.counted)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, confidence=st.booleans())
def test_alignment_ignores_the_order_of_images_and_of_cells(seed, confidence):
    fused, cells, text = _dense(seed)
    loss, generator = PartAlignment(confidence=confidence), _generator(seed)
    images = torch.randperm(len(fused), generator=generator)
    places = torch.randperm(12, generator=generator)
    moved = loss(
        fused[images].flatten(2)[..., places].view_as(fused),
        Cells(*(x[images].flatten(1)[:, places].view_as(x) for x in cells)),
        text[images],
    )
    torch.testing.assert_close(moved, loss(fused, cells, text))


@settings(max_examples=15, deadline=None)
@given(seed=seeds, temperature=st.sampled_from([0.01, 0.2, 1.0, 10.0]))
def test_confidence_weights_sum_to_one_over_counted_cells(seed, temperature):
    _, cells, _ = _dense(seed)
    cells.labels[2] = IGNORE
    weights = confidence_weights(cells, temperature)
    torch.testing.assert_close(weights.sum((1, 2)), torch.tensor([1.0, 1, 0]))
    assert not weights[~cells.counted].any()
    if temperature == 1:
        seen = weights[0][cells.counted[0]]
        assert seen.max() / seen.min() <= math.e * (1 + 1e-5)


@pytest.mark.parametrize("confidence", [False, True])
def test_alignment_of_ignored_images(confidence):
    fused, cells, text = _dense(5)
    loss = PartAlignment(confidence=confidence)
    one = loss(fused[:1], Cells(*(x[:1] for x in cells)), text[:1])
    cells.labels[1:] = IGNORE
    torch.testing.assert_close(loss(fused, cells, text), one)  # the others say nothing
    cells.labels[:] = IGNORE
    fused.requires_grad_()
    value = loss(fused, cells, text)
    value.backward()
    assert value.item() == 0 and fused.grad is not None and not fused.grad.any()


def test_one_text_per_part_serves_every_image():
    fused, cells, text = _dense(6)
    shared = PartAlignment()(fused, cells, text[0])
    assert torch.equal(shared, PartAlignment()(fused, cells, text[:1].expand(3, -1, -1)))


def test_alignment_is_float32_under_autocast():
    fused, cells, text = _dense(7)
    loss = PartAlignment(confidence=True)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(fused, cells, text)
    assert torch.equal(inside, loss(fused, cells, text))
    half = loss(fused.half(), cells, text.half())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, inside, rtol=1e-2, atol=1e-2)


def test_gradients_of_a_zero_vector_stay_finite():
    fused, cells, text = _dense(8)
    fused[0, :, 0, 0] = 0
    fused.requires_grad_()
    PartAlignment()(fused, cells, text).backward()
    assert fused.grad is not None and torch.isfinite(fused.grad).all()


def test_wrong_options_and_shapes_are_named():
    for bad in (lambda: PartContrast(temperature=0), lambda: PartAlignment(temperature=0)):
        with pytest.raises(ValueError, match="temperature is 0"):
            bad()
    with pytest.raises(ValueError, match="max"):
        PartAlignment(reduction="max")
    fused, cells, text = _dense(0)
    with pytest.raises(ValueError, match="expected N,D,h,w"):
        PartAlignment()(fused[..., :2], cells, text)
    with pytest.raises(ValueError, match="expected N,D,h,w"):
        PartAlignment()(fused, cells, text[:2])
    visual, counts, texts, identity = _people(0)
    with pytest.raises(ValueError, match="U,P,D"):
        PartContrast()(visual, counts, texts[:, :2], identity)
