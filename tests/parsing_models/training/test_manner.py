"""SCHP's step and its cycles as their authors ran them, against plain formulas in numpy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from parsing_models.networks.schp.network import SCHPOutput
from parsing_models.training.cycles import Restarts, Schedule
from parsing_models.training.losses import edges
from parsing_models.training.manner import MENDED, OURS, PUBLISHED
from parsing_models.training.self_correction import SelfCorrection
from parsing_models.training.task import ParsingTask
from pipeline.labels.sets import IGNORE
from reid_train.engine.loop import train
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime
from reid_train.engine.task import Stage

CLASSES, HEIGHT, WIDTH = 4, 6, 5


class Heads(nn.Module):
    """Outputs of a student or a teacher, whatever the images."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shapes = ((2, CLASSES), (2, CLASSES), (2, 2))
        self.outputs = nn.ParameterList(
            [torch.randn(n, c, HEIGHT, WIDTH, generator=generator) for n, c in shapes]
        )

    def forward(self, images: Tensor) -> SCHPOutput:
        del images
        fusion, parsing, edge = self.outputs
        return SCHPOutput(fusion=fusion, parsing=parsing, edge=edge)


def labelled() -> Tensor:
    """Two people of three parts, the left column padding."""
    labels = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.long)
    labels[0, 4:, 3:], labels[1, :2, 4:] = 2, 3
    labels[:, :, 0] = IGNORE
    return labels


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def authors_edges(labels: np.ndarray) -> np.ndarray:
    """Pixel by pixel: a change to the pixel above, to the right, and along both diagonals."""
    marked = np.zeros(labels.shape)
    n, h, w = labels.shape
    pairs = (
        [((y, x), (y - 1, x)) for y in range(1, h) for x in range(w)]
        + [((y, x), (y, x + 1)) for y in range(h) for x in range(w - 1)]
        + [((y, x), (y + 1, x + 1)) for y in range(h - 1) for x in range(w - 1)]
        + [((y, x), (y + 1, x - 1)) for y in range(h - 1) for x in range(1, w)]
    )
    for i in range(n):
        for here, there in pairs:
            one, other = labels[i][here], labels[i][there]
            if one != other and IGNORE not in (one, other):
                marked[i][here] = 1
    grown = np.zeros_like(marked)
    for y in range(h):
        for x in range(w):
            around = marked[:, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            grown[:, y, x] = around.max((1, 2))
    return grown.astype(int)


def onehot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[labels].transpose(0, 3, 1, 2)


def divergence(logits: np.ndarray, mixed: np.ndarray) -> float:
    """As F.kl_div with its default mean takes it: over pixels and classes."""
    target = softmax(mixed)
    return float((target * (np.log(target) - np.log(softmax(logits)))).mean())


def lovasz(logits: np.ndarray, labels: np.ndarray) -> float:
    chances = softmax(logits).transpose(0, 2, 3, 1).reshape(-1, CLASSES)
    flat = labels.ravel()
    chances, flat = chances[flat != IGNORE], flat[flat != IGNORE]
    losses = []
    for c in np.unique(flat):
        truth = (flat == c).astype(float)
        errors = np.abs(truth - chances[:, c])
        order = np.argsort(-errors, kind="stable")
        hit = truth[order]
        jaccard = 1 - (hit.sum() - hit.cumsum()) / (hit.sum() + (1 - hit).cumsum())
        losses.append(errors[order] @ np.diff(jaccard, prepend=0))
    return float(np.mean(losses))


def test_edges_are_the_authors():
    labels = torch.randint(0, 3, (3, 9, 7), generator=torch.Generator().manual_seed(1))
    labels[0, 2:4] = IGNORE
    found = edges(labels, published=True)
    np.testing.assert_array_equal(found.numpy(), authors_edges(labels.numpy()))
    assert (found != IGNORE).all() and (edges(labels)[0, 2] == IGNORE).all()


def test_the_first_phase_weighs_padding_as_no_edge():
    student, labels = Heads(0), labelled()
    task = ParsingTask(student, manner=PUBLISHED)
    losses, _ = task.training_forward({"images": torch.zeros(2, 3, 8, 8), "labels": labels})
    target = authors_edges(labels.numpy())
    logits = student.outputs[2].detach().numpy()
    share = target.mean()
    weight = np.where(target == 1, 1 - share, share)
    picked = np.take_along_axis(np.log(softmax(logits)), target[:, None], 1)[:, 0]
    assert losses["edge"].item() == pytest.approx(-(weight * picked).sum() / weight.sum(), rel=1e-5)


@pytest.mark.parametrize("cycle", [1, 3])
def test_a_step_of_a_cycle_is_the_authors(cycle: int):
    student, teacher, labels = Heads(0), Heads(5), labelled()
    task = ParsingTask(student, manner=PUBLISHED)
    task.correct(teacher, cycle / (cycle + 1))
    losses, _ = task.training_forward({"images": torch.zeros(2, 3, 8, 8), "labels": labels})
    fusion, parsing, edge = (p.detach().numpy().astype(float) for p in student.outputs)
    soft, _, soft_edge = (p.detach().numpy().astype(float) for p in teacher.outputs)
    trust, raw = cycle / (cycle + 1), labels.numpy()
    filled = np.where(raw == IGNORE, 0, raw)
    mixed = trust * soft + (1 - trust) * onehot(filled, CLASSES)
    expected = {
        "parsing": 0.5 * divergence(parsing, mixed),
        "parsing/lovasz": 0.5 * lovasz(parsing, raw),
        "fusion": 0.5 * divergence(fusion, mixed),
        # By then the labels have lost what they ignored.
        "fusion/lovasz": 0.5 * lovasz(fusion, filled),
        "edge": divergence(edge, trust * soft_edge + (1 - trust) * onehot(authors_edges(raw), 2)),
    }
    assert {name: v.item() for name, v in losses.items()} == pytest.approx(expected, rel=1e-5)
    assert teacher.training


def test_without_the_slips_padding_stays_out_and_the_teacher_keeps_its_norms():
    student, teacher, labels = Heads(0), Heads(5), labelled()
    task = ParsingTask(student, manner=MENDED)
    task.correct(teacher, 0.5)
    losses, _ = task.training_forward({"images": torch.zeros(2, 3, 8, 8), "labels": labels})
    assert not teacher.training
    inside = np.s_[:, :, :, 1:]  # without the padded column
    fusion, soft = (m.outputs[0].detach().numpy()[inside] for m in (student, teacher))
    mixed = 0.5 * soft + 0.5 * onehot(labels.numpy()[:, :, 1:], CLASSES)
    assert losses["fusion"].item() == pytest.approx(0.5 * divergence(fusion, mixed), rel=1e-5)
    task.manner = replace(MENDED, kl_per_class=False)
    larger, _ = task.training_forward({"images": torch.zeros(2, 3, 8, 8), "labels": labels})
    assert larger["fusion"].item() == pytest.approx(CLASSES * losses["fusion"].item(), rel=1e-5)


def test_rates_are_the_authors_over_all_150_epochs():
    curve = Restarts(warmup=10, start=100, length=10)
    low, high, again = 7e-5, 7e-3, 3.5e-3
    for epoch in range(150):
        if epoch < 10:
            expected = low + epoch * (high - low) / 10
        elif epoch < 100:
            expected = low + (high - low) * (1 + math.cos(math.pi * (epoch - 10) / 90)) / 2
        else:
            expected = low + (again - low) * (1 + math.cos(math.pi * (epoch % 10) / 10)) / 2
        assert 7e-3 * curve(epoch, 3, 7, 150) == pytest.approx(expected, rel=1e-12)
    # Measured beside the authors' scheduler, at two epochs.
    assert 7e-3 * curve(40, 0, 1, 150) == pytest.approx(5.27e-3, rel=1e-3)
    assert 7e-3 * curve(55, 0, 1, 150) == pytest.approx(3.54e-3, rel=2e-3)


class Images:
    """Two batches of noise a time."""

    def __len__(self) -> int:
        return 2

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        del rank, world
        for step in range(2):
            generator = torch.Generator().manual_seed(10 * epoch + step)
            images = torch.randn(2, 3, HEIGHT, WIDTH, generator=generator)
            yield {"images": images, "labels": images.argmax(1)}


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1))


class _Killed(Exception):
    pass


def run(folder: Path, *, stop: int | None = None) -> tuple[nn.Module, SelfCorrection]:
    task = ParsingTask(network(), align_corners=False, manner=PUBLISHED)
    asked: list[int] = []

    def score(_: nn.Module) -> float:
        asked.append(1)
        if stop is not None and len(asked) == stop:
            raise _Killed
        return 0.5

    correction = SelfCorrection(Images(), score, start=2, length=2)
    rates = Restarts(warmup=1, start=2, length=2)
    stage = Stage("schp", 6, Images(), Optimiser("sgd", lr=0.1), rates, hooks=[correction])
    train(task, [stage], runtime=Runtime.create("cpu"), folder=folder)
    correction.finish(task)
    return task.network, correction


def test_cycles_in_one_stage_begin_on_time_and_go_on_after_a_kill(tmp_path: Path):
    whole, correction = run(tmp_path / "whole")
    assert correction.cycle == 3 and correction.history == [0.5] * 3  # epochs 2, 4, and the end
    with pytest.raises(_Killed):
        run(tmp_path / "killed", stop=2)  # when the second average was scored
    resumed, again = run(tmp_path / "killed")
    assert again.cycle == 3
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_published_cycles_are_one_stage_under_one_optimiser():
    assert PUBLISHED.one_optimiser and not OURS.one_optimiser
    correction = SelfCorrection(Images(), start=100, length=10)
    (stage,) = Schedule().stages(cast("Any", Images()), correction)
    assert stage.epochs == 150 and stage.hooks == [correction]
    assert stage.schedule == Restarts(warmup=10, start=100, length=10)
    assert (stage.optimiser.lr, stage.optimiser.momentum) == (7e-3, 0.9)
