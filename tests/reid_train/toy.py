"""A task that knows no method, with dropout and batch norm, for tests of the loop.

Run as a program it trains in a folder: ``python -m tests.reid_train.toy FOLDER [STEPS_PER_EPOCH]``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_train.engine.loop import train
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime, derive_seed, gather
from reid_train.engine.schedules import Constant, Cosine, OneCycle
from reid_train.engine.task import Hook, ReidTask, Stage


class Toy(ReidTask):
    """Regression with a small network. Features are gathered, so the loss is a global one."""

    centre: Tensor
    norm: Any
    body: Any

    def __init__(self, *, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout))
            self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
            self.head = nn.Linear(8, 1)
        self.register_buffer("centre", torch.zeros(4))

    def training_forward(self, batch: dict[str, Tensor]):
        feature = gather(self.body(batch["x"] - self.centre))
        target = gather(batch["y"])
        error = self.head(self.norm(feature))[:, 0] - target
        # Comparing every image with every other: wrong unless the whole global batch is here.
        spread = torch.cdist(feature, feature).square().mean()
        return {"error": error.square().mean(), "spread": 0.1 * spread}, {"bias": error.mean()}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """What the loop differentiates."""
        return torch.stack(list(self.training_forward(batch)[0].values())).sum()


def gradient(parameter: Tensor) -> Tensor:
    """The gradient, which must be there."""
    assert parameter.grad is not None
    return parameter.grad


class ToyBatches:
    """16 rows per step; labels are a fixed function of the rows; ``slow`` waits between batches."""

    def __init__(self, *, steps: int = 6, seed: int = 0, slow: float = 0.0) -> None:
        self.steps, self.seed, self.slow = steps, seed, slow

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        for step in range(self.steps):
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "toy", epoch, step))
            x = torch.randn(16, 4, generator=generator)
            y = x[:, 0] * x[:, 1] + x[:, 2]
            share = slice(rank * 16 // world, (rank + 1) * 16 // world)
            time.sleep(self.slow)
            yield {"x": x[share], "y": y[share]}


class Centre(Hook):
    """Moves a buffer of the task at every epoch and counts; both must survive a resume."""

    def __init__(self) -> None:
        self.calls = 0

    def begin_epoch(self, task: ReidTask, epoch: int) -> None:
        self.calls += 1
        task.get_buffer("centre").add_(0.01 * self.calls)

    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]


def toy_stages(steps: int = 6, slow: float = 0.0) -> list[Stage]:
    """Three stages that between them use every option the state has to carry."""
    return [
        Stage(
            "head",
            epochs=2,
            batches=ToyBatches(steps=steps, seed=1, slow=slow),
            optimiser=Optimiser("sgd", lr=0.05, weight_decay=1e-3, bias_lr=2.0),
            trains=(("head.*", 1.0), ("norm.*", 0.5)),
        ),
        Stage(
            "all",
            epochs=3,
            batches=ToyBatches(steps=steps, seed=2, slow=slow),
            optimiser=Optimiser("adam", lr=0.01, weight_decay=1e-4),
            schedule=OneCycle(),
            accumulate=2,
            clip=1.0,
            ema=0.9,
            hooks=[Centre()],
        ),
        Stage(
            "body",
            epochs=2,
            batches=ToyBatches(steps=steps, seed=3, slow=slow),
            optimiser=Optimiser("adamw", lr=0.01, weight_decay=1e-2, decay_matrices_only=True),
            schedule=Cosine(warmup_epochs=1, per="step"),
            trains=(("*", 1.0), ("head.*", 0.0)),
        ),
    ]


def plain_stage(**options) -> Stage:
    """One stage of two epochs with Adam."""
    defaults = {"epochs": 2, "batches": ToyBatches(), "optimiser": Optimiser("adam", lr=0.01)}
    return Stage("plain", **{**defaults, "schedule": Constant(), **options})


def main(folder: str, steps: str = "6", slow: str = "0") -> None:
    task = Toy(dropout=0.5, norm=True)
    stages = toy_stages(int(steps), float(slow))
    runtime = Runtime.create("cpu", threads=1, join=True)
    train(task, stages, runtime=runtime, folder=folder, seed=3, save_every=1)
    torch.save(task.state_dict(), Path(folder) / "final.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
