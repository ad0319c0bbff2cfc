"""Averages over cycles, batch-norm estimates, refined labels."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from parsing_models.networks.schp.network import SCHP, Widths
from parsing_models.training.losses import refined_targets, soft_loss
from parsing_models.training.self_correction import SelfCorrection, estimate_norms
from parsing_models.training.task import Cost, ParsingTask
from pipeline.labels.sets import IGNORE

SMALL = Widths(layers=(1, 1, 1, 1), stem=4, planes=4, context=8, head=8, skip=4, edge=4)


class Fixed:
    """Two batches of constant size."""

    def __init__(self, *batches: Tensor) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        del epoch, rank, world
        for images in self.batches:
            yield {"images": images}


def test_statistics_are_the_mean_over_batches() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1))
    network.train()
    network(torch.full((2, 1, 2, 2), 100.0))
    one, other = torch.tensor([1.0, 3.0]), torch.tensor([10.0, 10.0])
    source = Fixed(one.view(2, 1, 1, 1), other.view(2, 1, 1, 1))
    estimate_norms(network, source)
    norm = network[0]
    assert isinstance(norm, nn.BatchNorm2d)
    # Means 2 and 10; unbiased variances 2 and 0.
    assert float(norm.running_mean[0]) == 6 and float(norm.running_var[0]) == 1  # type: ignore[index]
    assert norm.momentum == 0.1 and not network.training


def test_refined_targets_mix_logits_with_the_label() -> None:
    logits = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)
    labels = torch.zeros(1, 1, 1, dtype=torch.long)
    target = refined_targets(logits, labels, trust=0.5)
    # softmax(0.5 * (0, 2) + 0.5 * (1, 0)) = softmax(0.5, 1)
    expected = 1 / (1 + math.exp(0.5))
    assert float(target[0, 0]) == pytest.approx(expected)
    alone = refined_targets(logits, torch.full((1, 1, 1), IGNORE), trust=0.5)
    assert float(alone[0, 0]) == pytest.approx(1 / (1 + math.e))


def test_the_divergence_is_zero_at_the_target_and_counts_known_pixels_alone() -> None:
    logits = torch.randn(1, 3, 2, 2)
    counted = torch.tensor([[[True, True], [False, False]]])
    assert float(soft_loss(logits, logits.softmax(1), counted)) == pytest.approx(0, abs=1e-6)
    target = torch.zeros(1, 3, 2, 2)
    target[:, 0] = 1
    expected = -logits.log_softmax(1)[0, 0, 0].mean()
    assert float(soft_loss(logits, target, counted)) == pytest.approx(float(expected), rel=1e-5)
    assert float(soft_loss(logits, target, torch.zeros_like(counted))) == 0


def small_task(seed: int) -> ParsingTask:
    torch.manual_seed(seed)
    return ParsingTask(SCHP(SMALL), cost=Cost(step=2))


def test_cycles_average_their_students_alike() -> None:
    task = small_task(0)
    weight = task.network.get_parameter("conv1.weight")
    scored: list[int] = []

    def score(network: nn.Module) -> float:
        scored.append(sum(1 for _ in network.parameters()))
        return 0.25

    correction = SelfCorrection(Fixed(torch.randn(2, 3, 32, 16)), score)
    values = (1.0, 4.0, 7.0)
    for number, value in enumerate(values[:2], start=1):
        with torch.no_grad():
            weight.fill_(value)
        correction.begin_stage(task)
        assert correction.cycle == number
        assert task._trust == number / (number + 1)
    with torch.no_grad():
        weight.fill_(values[2])
    correction.finish(task)
    assert torch.allclose(weight, torch.full_like(weight, 4.0))  # (1 + 4 + 7) / 3
    assert correction.history == [0.25] * 3 and len(scored) == 3
    assert task._teacher[0] is None


def test_the_teacher_changes_the_loss_and_takes_no_gradient() -> None:
    task = small_task(1)
    batch = {
        "images": torch.randn(2, 3, 32, 16),
        "labels": torch.randint(0, 20, (2, 32, 16)),
    }
    plain, _ = task.training_forward(batch)
    correction = SelfCorrection(Fixed(torch.randn(2, 3, 32, 16)))
    correction.begin_stage(task)
    refined, _ = task.training_forward(batch)
    assert set(plain) == set(refined)
    assert not torch.isclose(plain["fusion"], refined["fusion"])
    torch.stack(list(refined.values())).sum().backward()
    assert correction.average is not None
    assert all(p.grad is None for p in correction.average.parameters())
    names = {name for name, _ in task.named_parameters()}
    assert not any(name.startswith("_teacher") for name in names)
    assert len(task.state_dict()) == len(task.network.state_dict())


def test_a_resumed_cycle_gets_its_average_back() -> None:
    task = small_task(2)
    source = Fixed(torch.randn(2, 3, 32, 16))
    correction = SelfCorrection(source, lambda _: 0.5)
    correction.begin_stage(task)
    with torch.no_grad():
        task.network.get_parameter("conv1.weight").add_(1)
    correction.begin_stage(task)
    saved = correction.state_dict()
    resumed = SelfCorrection(source, lambda _: 0.1)
    resumed.begin_stage(task)  # as the loop does, before the saved values come back
    resumed.load_state_dict(saved)
    assert resumed.cycle == 2 and resumed.history == [0.5, 0.5]
    assert task._trust == 2 / 3 and task._teacher == [resumed.average]
    assert resumed.average is not None and correction.average is not None
    for one, other in zip(
        resumed.average.state_dict().values(), correction.average.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_other_networks_train_with_one_head() -> None:
    task = ParsingTask(nn.Conv2d(3, 20, 1), align_corners=False)
    labels = torch.randint(0, 20, (2, 8, 4))
    labels[:, 0] = IGNORE
    losses, report = task.training_forward({"images": torch.randn(2, 3, 8, 4), "labels": labels})
    assert set(losses) == {"logits", "logits/lovasz"} and 0 <= float(report["pixel_accuracy"]) <= 1
