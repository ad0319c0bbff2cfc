"""Prototype memories against hand values, written-out loops and the recorded ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_train.losses import LOSSES
from reid_train.losses.memory import CameraPrototypes, PrototypeMemory


def _memory(prototypes, **options) -> PrototypeMemory:
    memory = PrototypeMemory(**options)
    memory.prototypes = torch.as_tensor(prototypes, dtype=torch.float32)
    return memory


def _random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["hard", "plain"])
def test_equals_the_recorded(kind, golden, fill):
    recorded = golden("clip_losses.npz")
    labels = torch.as_tensor(recorded["supcon_labels"])
    before = F.normalize(torch.tensor(fill.fill("loss.memory", (5, 64))), dim=1)
    memory = _memory(before, hard=kind == "hard")
    query = torch.tensor(3 * fill.fill("loss.query", (8, 64)), requires_grad=True)
    loss = memory(query, labels)
    assert loss.item() == pytest.approx(float(recorded[f"pcl_{kind}_loss"]), rel=1e-5)
    memory.step()  # before the gradient, which must still be that of the old prototypes
    (grad,) = torch.autograd.grad(loss, query)
    np.testing.assert_allclose(grad, recorded[f"pcl_{kind}_grad"], rtol=1e-5, atol=1e-6)
    after = recorded[f"pcl_{kind}_memory_after"]
    np.testing.assert_allclose(memory.prototypes, after, rtol=1e-5, atol=1e-6)
    assert torch.equal(memory.prototypes[4], before[4])

    other = _memory(before, hard=kind == "hard")
    other.update(query.detach(), labels)
    assert torch.equal(other.prototypes, memory.prototypes)


def test_loss_by_hand():
    memory = _memory([[1.0, 0.0], [0.0, 1.0]], temperature=0.5)
    features = torch.tensor([[3.0, 4.0], [7.0, 0.0], [0.2, 0.0]])  # cosines .6 .8; 1 0; an outlier
    loss = memory(features, torch.tensor([0, 0, -1]))
    expected = (math.log(1 + math.exp(0.4)) + math.log(1 + math.exp(-2))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_hard_update_by_hand():
    memory = _memory([[1.0, 0.0], [0.0, 1.0]], momentum=0.25)
    features = torch.tensor([[5.0, 0.0], [0.0, 2.0], [3.0, 4.0], [1.0, 0.0]])
    memory.update(features, torch.tensor([0, 0, 0, -1]))
    # the second is farthest from (1, 0): (0.25, 0.75), normalised
    torch.testing.assert_close(
        memory.prototypes, torch.tensor([[1.0, 3.0], [0, 10**0.5]]) / 10**0.5
    )


def test_hard_update_takes_the_first_of_equals():
    memory = _memory([[1.0, 0.0, 0.0]], momentum=0.0)
    features = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    memory.update(features, torch.tensor([0, 0, 0]))
    assert memory.prototypes.tolist() == [[0.0, 1.0, 0.0]]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), hard=st.booleans(), momentum=st.floats(0.0, 1.0))
def test_update_equals_the_loop(seed, hard, momentum):
    generator = torch.Generator().manual_seed(seed)
    prototypes = F.normalize(torch.randn(4, 3, generator=generator), dim=1)
    features = torch.randn(11, 3, generator=generator)
    labels = torch.randint(-1, 4, (11,), generator=generator)
    expected = prototypes.clone()
    unit = F.normalize(features, dim=1)
    for label in range(4):
        own = unit[labels == label]
        if hard and len(own):
            own = own[(own @ prototypes[label]).argmin()][None]
        for feature in own:
            mixed = momentum * expected[label] + (1 - momentum) * feature
            expected[label] = mixed / mixed.norm()
    memory = _memory(prototypes, hard=hard, momentum=momentum)
    memory.update(features, labels)
    torch.testing.assert_close(memory.prototypes, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(memory.prototypes.norm(dim=1), torch.ones(4))


def test_nothing_moves_without_step_and_in_eval_mode():
    before = F.normalize(_random(0, 3, 4), dim=1)
    memory, features, labels = _memory(before), _random(1, 5, 4), torch.tensor([0, 1, 2, 2, -1])
    first = memory(features, labels)
    assert torch.equal(memory(features, labels), first)
    assert torch.equal(memory.prototypes, before)
    memory.remembered.clear()
    memory.eval()
    assert torch.equal(memory(features, labels), first)
    memory.step()
    assert torch.equal(memory.prototypes, before)


@pytest.mark.parametrize("hard", [True, False])
def test_batches_of_one_step_count_as_one_batch(hard):
    before, features = F.normalize(_random(0, 3, 4), dim=1), _random(1, 8, 4)
    labels = torch.tensor([0, 1, 2, 2, 0, -1, 1, 0])
    whole, parts = _memory(before, hard=hard), _memory(before, hard=hard)
    whole(features, labels)
    whole.step()
    for part in (slice(0, 3), slice(3, 8)):
        parts(features[part], labels[part])
    parts.step()
    torch.testing.assert_close(parts.prototypes, whole.prototypes)
    assert not torch.equal(whole.prototypes, before)
    moved = parts.prototypes
    parts.step()  # nothing left to apply
    assert torch.equal(parts.prototypes, moved)


@pytest.mark.parametrize("hard", [True, False])
def test_outliers_take_no_part(hard):
    before, features = F.normalize(_random(0, 3, 4), dim=1), _random(1, 6, 4)
    labels = torch.tensor([0, -1, 2, -1, 2, -1])
    memory, without = _memory(before, hard=hard), _memory(before, hard=hard)
    features.requires_grad_()
    loss = memory(features, labels)
    torch.testing.assert_close(loss, without(features[::2], labels[::2]))
    (grad,) = torch.autograd.grad(loss, features)
    assert not grad[1::2].any() and grad[::2].any(1).all()
    memory.step()
    without.step()
    torch.testing.assert_close(memory.prototypes, without.prototypes)


@pytest.mark.parametrize("hard", [True, False])
def test_only_outliers_is_zero(hard):
    before, features = F.normalize(_random(0, 3, 4), dim=1), _random(1, 2, 4).requires_grad_()
    memory = _memory(before, hard=hard)
    loss = memory(features, torch.tensor([-1, -1]))
    (grad,) = torch.autograd.grad(loss, features)
    assert loss.item() == 0 and not grad.any()
    memory.step()
    assert torch.equal(memory.prototypes, before)


def test_rebuild_is_the_normalised_mean_of_unit_vectors():
    memory = PrototypeMemory()
    features = torch.tensor([[9.0, 0.0], [0.0, 0.5], [0.0, -3.0], [1.0, 1.0]])
    memory.rebuild(features, torch.tensor([0, 0, 1, -1]))
    torch.testing.assert_close(memory.prototypes, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, -1.0]]))
    memory(features, torch.tensor([0, 0, 1, -1]))
    memory.rebuild(features, torch.tensor([0, 1, 2, 2]))  # other clusters; old batches forgotten
    assert memory.prototypes.shape == (3, 2) and not memory.remembered


def test_rebuild_refuses_labels_without_images():
    with pytest.raises(ValueError, match="2 labels up to 2"):
        PrototypeMemory().rebuild(torch.eye(3), torch.tensor([0, 2, -1]))
    with pytest.raises(ValueError, match="no image has a label"):
        PrototypeMemory().rebuild(torch.eye(3), torch.tensor([-1, -1, -1]))


def test_misuse_is_an_error():
    with pytest.raises(RuntimeError, match="rebuild first"):
        PrototypeMemory()(torch.eye(3), torch.arange(3))
    memory = _memory(torch.eye(3))
    with pytest.raises(RuntimeError, match="call step"):
        for _ in range(1000):
            memory(torch.eye(3), torch.arange(3))
    for options in ({"temperature": 0.0}, {"momentum": 1.5}):
        with pytest.raises(ValueError, match=str(next(iter(options.values())))):
            LOSSES["prototypes"](**options)
    with pytest.raises(ValueError, match="negatives is 0"):
        CameraPrototypes(negatives=0)


def test_gradients_are_the_derivatives():
    memory = PrototypeMemory(temperature=0.5).double().eval()
    memory.prototypes = F.normalize(_random(0, 4, 3).double(), dim=1)
    features = _random(1, 5, 3).double().requires_grad_()
    labels = torch.tensor([0, 3, 3, -1, 1])
    assert torch.autograd.gradcheck(lambda x: memory(x, labels), (features,))


def test_in_float32_whatever_autocast_says():
    memory, features = _memory(F.normalize(_random(0, 3, 8), dim=1)), _random(1, 6, 8)
    labels = torch.arange(6) % 3
    with torch.autocast("cpu", torch.bfloat16):
        inside = memory(features, labels)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, memory(features, labels))
    memory(features.half(), labels).item()
    memory.step()
    assert memory.prototypes.dtype == torch.float32


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_neither_order_nor_lengths_matter_to_the_hard_memory(seed):
    generator = torch.Generator().manual_seed(seed)
    before = F.normalize(torch.randn(3, 4, generator=generator), dim=1)
    features, labels = torch.randn(8, 4, generator=generator), torch.arange(8) % 4 - 1
    order = torch.randperm(8, generator=generator)
    lengths = 0.5 + torch.rand(8, 1, generator=generator)
    one, other = _memory(before), _memory(before)
    loss = one(features, labels)
    torch.testing.assert_close(other((lengths * features)[order], labels[order]), loss)
    one.step()
    other.step()
    torch.testing.assert_close(one.prototypes, other.prototypes)


def test_saved_and_restored_with_another_number_of_prototypes():
    features, labels, camids = _random(0, 8, 4), torch.arange(8) // 2, torch.arange(8) % 2
    one, other = CameraPrototypes(), CameraPrototypes()
    one.rebuild(features, labels, camids)
    one(features, labels, camids)
    one.step()
    saved = one.saved()
    other.rebuild(features, labels // 2, camids)
    other(features, labels // 2, camids)
    other.restore(saved)
    assert not other.remembered and not other.state_dict()
    # Every prototype is the feature of one image: only other features are sure to move it.
    later = _random(1, 8, 4)
    for memory in (one, other):
        memory(later, labels, camids)
        memory.step()
    assert torch.equal(one.prototypes, other.prototypes)
    assert not torch.equal(one.prototypes, saved["prototypes"])


def _naive_cameras(memory: CameraPrototypes, features, labels, camids, inter: bool) -> float:
    """CAP written out image by image."""
    if not ((labels >= 0) & (camids >= 0)).any():
        return 0.0
    scores = F.normalize(features, dim=1) @ memory.prototypes.T / memory.temperature
    names = list(zip(memory.identities.tolist(), memory.cameras.tolist(), strict=True))
    total = 0.0
    for camera in set(camids[labels >= 0].tolist()) - {-1}:
        images = [n for n in range(len(labels)) if camids[n] == camera and labels[n] >= 0]
        for n in images:
            row, label = scores[n].tolist(), int(labels[n])
            own = row[names.index((label, camera))]
            within = [s for s, (_, c) in zip(row, names, strict=True) if c == camera]
            term = math.log(sum(math.exp(s) for s in within)) - own
            if inter:
                same = [s for s, (i, _) in zip(row, names, strict=True) if i == label]
                others = [s for s, (i, _) in zip(row, names, strict=True) if i != label]
                near = same + sorted(others)[-memory.negatives :]
                log_sum = math.log(sum(math.exp(s) for s in near))
                term += memory.inter_weight * sum(log_sum - s for s in same) / len(same)
            total += term / len(images)
    return total


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), negatives=st.sampled_from([1, 3, 50]), inter=st.booleans())
def test_cameras_equal_the_written_out_loss(seed, negatives, inter):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(24, 5, generator=generator)
    labels = torch.randint(-1, 4, (24,), generator=generator)
    camids = torch.randint(-1, 3, (24,), generator=generator)  # -1: nobody knows
    if not (labels >= 0).any():
        return
    memory = CameraPrototypes(temperature=0.5, negatives=negatives)
    memory.rebuild(features, labels, camids)
    batch = torch.randn(24, 5, generator=generator)[:10]
    loss = memory(batch, labels[:10], camids[:10], inter=inter)
    expected = _naive_cameras(memory, batch, labels[:10], camids[:10], inter)
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_cameras_split_an_identity():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    labels, camids = torch.tensor([0, 0, 0, 1, -1]), torch.tensor([0, 1, 1, 0, 2])
    memory = CameraPrototypes(momentum=0.0)
    memory.rebuild(features, labels, camids)
    assert memory.identities.tolist() == [0, 0, 1] and memory.cameras.tolist() == [0, 1, 0]
    torch.testing.assert_close(
        memory.prototypes[1], F.normalize(torch.tensor([0.5**0.5, 1 + 0.5**0.5]), dim=0)
    )
    before = memory.prototypes
    memory(features, labels, camids)
    memory.step()  # plain: with no momentum the last image of a proxy is the proxy
    torch.testing.assert_close(memory.prototypes[1], F.normalize(features[2], dim=0))
    assert torch.equal(memory.prototypes[[0, 2]], before[[0, 2]])


def test_cameras_gradients_and_outliers():
    memory = CameraPrototypes(temperature=0.5, negatives=2).double()
    features, camids = _random(3, 12, 4).double(), torch.arange(12) % 3
    labels = torch.arange(12) // 3 - 1
    memory.rebuild(features, labels, camids)
    memory.prototypes = memory.prototypes.double()
    memory.eval()
    leaf = (features + 0.1 * _random(4, 12, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: memory(x, labels, camids), (leaf,))
    (grad,) = torch.autograd.grad(memory(leaf, labels, camids), leaf)
    assert not grad[:3].any() and grad[3:].any(1).all()
    nothing = memory(leaf[:3], labels[:3], camids[:3])
    (grad,) = torch.autograd.grad(nothing, leaf)
    assert nothing.item() == 0 and not grad.any()
    memory.train()
    memory(leaf[:3], labels[:3], camids[:3])
    before = memory.prototypes
    memory.step()
    assert torch.equal(memory.prototypes, before)
    memory.rebuild(features, labels, torch.full((12,), -1))
    assert len(memory.prototypes) == 0
    assert memory(leaf, labels, torch.full((12,), -1)).item() == 0
    with pytest.raises(ValueError, match="no image has a label"):
        memory.rebuild(features, torch.full((12,), -1), camids)


def test_cameras_refuse_what_they_have_not_seen():
    memory = CameraPrototypes()
    memory.rebuild(torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="did not see together"):
        memory(torch.eye(2), torch.tensor([0, 1]), torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="no image has a label"):
        memory.rebuild(torch.eye(2), torch.tensor([-1, -1]), torch.tensor([0, 1]))
