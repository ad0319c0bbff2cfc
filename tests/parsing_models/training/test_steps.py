"""SCHP trains as its authors' code does, through both phases: the first steps of the one loop in
float64, beside the losses, the average, the schedule and SGD written out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parsing_models.networks.schp.network import SCHPOutput
from parsing_models.training.cycles import Schedule
from parsing_models.training.manner import PUBLISHED
from parsing_models.training.self_correction import SelfCorrection
from parsing_models.training.task import ParsingTask
from pipeline.labels.sets import IGNORE
from reid_train.engine.runtime import Runtime
from tests.parsing_models.training.test_manner import authors_edges
from tests.reid_train.plain.updates import Named, Sgd, gradients, leaves
from tests.reid_train.stepping import assert_moved_alike, recorded

CLASSES, HEIGHT, WIDTH = 4, 9, 7
START, LENGTH, CYCLES, WARMUP = 3, 1, 2, 2


class Network(nn.Module):
    """A convolution and a batch norm under two heads and edges, at half the labels' size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Conv2d(3, 6, 3, padding=1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.fusion, self.parsing, self.edge = (nn.Conv2d(6, n, 1) for n in (CLASSES, CLASSES, 2))

    def forward(self, images: Tensor) -> SCHPOutput:
        x = self.norm(self.body(images)).relu()
        return SCHPOutput(fusion=self.fusion(x), parsing=self.parsing(x), edge=self.edge(x))


class Crops:
    """Two batches of three crops a time, their outermost columns padding."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __len__(self) -> int:
        return 2

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        del rank, world
        for step in range(2):
            generator = torch.Generator().manual_seed(100 * self.seed + 10 * epoch + step)
            images = torch.randn(3, 3, HEIGHT, WIDTH, generator=generator)
            labels = torch.randint(0, CLASSES, (3, HEIGHT // 3, WIDTH), generator=generator)
            labels = labels.repeat_interleave(3, 1)
            labels[:, :, 0] = labels[:, :, -1] = IGNORE
            yield {"images": images, "labels": labels}


def outputs(weights: Named, images: Tensor) -> dict[str, Tensor]:
    """Logits at the labels' size, norms by the batch, corners on corners."""
    x = F.conv2d(images, weights["body.weight"], padding=1, stride=2)
    mean = x.mean((0, 2, 3), keepdim=True)
    x = (x - mean) / ((x - mean).square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    x = x * weights["norm.weight"][:, None, None] + weights["norm.bias"][:, None, None]
    found = {}
    for head in ("fusion", "parsing", "edge"):
        logits = F.conv2d(x.clamp(min=0), weights[f"{head}.weight"], weights[f"{head}.bias"])
        size = (HEIGHT, WIDTH)
        found[head] = F.interpolate(logits, size, mode="bilinear", align_corners=True)
    return found


def lovasz(logits: Tensor, labels: Tensor) -> Tensor:
    """Berman et al. 2018, algorithm 1, mean over the classes present."""
    chances = logits.softmax(1).permute(0, 2, 3, 1).reshape(-1, CLASSES)[labels.flatten() != IGNORE]
    flat = labels[labels != IGNORE]
    losses = []
    for number in flat.unique():
        truth = (flat == number).double()
        errors, order = (truth - chances[:, number]).abs().sort(descending=True)
        hit = truth[order]
        jaccard = 1 - (hit.sum() - hit.cumsum(0)) / (hit.sum() + (1 - hit).cumsum(0))
        losses.append(errors @ torch.diff(jaccard, prepend=jaccard.new_zeros(1)))
    return torch.stack(losses).mean()


def onehot(labels: Tensor, classes: int) -> Tensor:
    return F.one_hot(labels, classes).permute(0, 3, 1, 2).double()


def first_phase(given: dict[str, Tensor], labels: Tensor) -> Tensor:
    loss = torch.zeros((), dtype=torch.float64)
    for head in ("fusion", "parsing"):
        picked = given[head].log_softmax(1).gather(1, labels.where(labels != IGNORE, 0)[:, None])
        loss = loss - 0.5 * picked[:, 0][labels != IGNORE].mean()
        loss = loss + 0.5 * lovasz(given[head], labels)
    edges = torch.from_numpy(authors_edges(labels.numpy()))
    share = edges.double().mean()  # padding is no edge, and counts
    weight = torch.where(edges == 1, 1 - share, share)
    picked = given["edge"].log_softmax(1).gather(1, edges[:, None])[:, 0]
    return loss - (weight * picked).sum() / weight.sum()


def cycle(
    given: dict[str, Tensor], soft: dict[str, Tensor], labels: Tensor, trust: float
) -> Tensor:
    """Both heads by the average's fused output, edges too; means over pixels times classes."""

    def divergence(logits: Tensor, softer: Tensor, hard: Tensor) -> Tensor:
        target = (trust * softer + (1 - trust) * hard).softmax(1)
        return (target * (target.log() - logits.log_softmax(1))).mean()

    filled = labels.where(labels != IGNORE, 0)
    loss = torch.zeros((), dtype=torch.float64)
    # The first head's Lovasz loss is taken before the padding has become background.
    for head, seen in (("parsing", labels), ("fusion", filled)):
        hard = onehot(filled, CLASSES)
        loss = loss + 0.5 * divergence(given[head], soft["fusion"], hard)
        loss = loss + 0.5 * lovasz(given[head], seen)
    edges = torch.from_numpy(authors_edges(labels.numpy()))
    return loss + divergence(given["edge"], soft["edge"], onehot(edges, 2))


def published_rate(epoch: int) -> float:
    low, high = 7e-5, 7e-3
    if epoch < WARMUP:
        return low + epoch * (high - low) / WARMUP
    if epoch < START:
        done = (epoch - WARMUP) / (START - WARMUP)
        return low + (high - low) * (1 + math.cos(math.pi * done)) / 2
    done = (epoch - START) % LENGTH / LENGTH
    return low + (high / 2 - low) * (1 + math.cos(math.pi * done)) / 2


def test_the_steps_of_both_phases_and_the_last_average(tmp_path: Path):
    runtime = Runtime.create("cpu", "fp64")
    task = ParsingTask(Network(), manner=PUBLISHED)
    runtime.place(task)
    learnt = leaves(dict(task.network.named_parameters()))
    begun = {name: value.detach().clone() for name, value in learnt.items()}
    norms = Crops(9)
    correction = SelfCorrection(norms, start=START, length=LENGTH)
    schedule = Schedule(START, WARMUP, CYCLES, LENGTH, manner=PUBLISHED)
    (stage,) = schedule.stages(Crops(1), correction)  # type: ignore[arg-type]
    found = recorded(task, stage, runtime, tmp_path, epochs=stage.epochs)
    assert len(found.loss) == 2 * (START + CYCLES * LENGTH)

    sgd, average, number = Sgd(0.9), {}, 0
    for step, batch in enumerate(found.batches):
        epoch, first = divmod(step, 2)
        if epoch >= START and (epoch - START) % LENGTH == 0 and not first:
            number += 1
            for name, value in learnt.items():
                mean = average.get(name, torch.zeros_like(value))
                average[name] = (1 - 1 / number) * mean + value.detach() / number
        images, labels = batch["images"].double(), batch["labels"]
        given = outputs(learnt, images)
        if epoch < START:
            loss = first_phase(given, labels)
        else:
            # The teacher is left in train mode: its norms are the batch's.
            loss = cycle(given, outputs(average, images), labels, number / (number + 1))
        assert found.loss[step] == pytest.approx(loss.item(), rel=1e-10), step
        rate = published_rate(epoch)
        learnt = sgd(learnt, gradients(loss, learnt), lambda _, rate=rate: (rate, 5e-4))
        for name, value in learnt.items():
            assert found.rules[step][f"network.{name}"] == pytest.approx((rate, 5e-4), rel=1e-12)
            own = found.states[step][f"network.{name}"]
            assert_moved_alike(own, value.detach(), begun[name], what=f"{step} {name}")
    assert (number, correction.cycle) == (CYCLES, CYCLES)

    correction.finish(task)
    for name, value in learnt.items():
        average[name] = (1 - 1 / 3) * average[name] + value.detach() / 3
        own = task.network.get_parameter(name)
        torch.testing.assert_close(own.detach().double(), average[name], rtol=1e-6, atol=1e-7)
    means, variances = statistics(average, norms)
    own = {name: value.double() for name, value in task.network.named_buffers()}
    np.testing.assert_allclose(own["norm.running_mean"], means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(own["norm.running_var"], variances, rtol=1e-5)


def statistics(weights: Named, source: Crops) -> tuple[Tensor, Tensor]:
    """Means over the batches of an epoch; variances unbiased in each."""
    seen = [
        F.conv2d(batch["images"].double(), weights["body.weight"], padding=1, stride=2)
        for batch in source.epoch(0, 0, 1)
    ]
    means = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    return means, torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
