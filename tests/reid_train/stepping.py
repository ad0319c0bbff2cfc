"""The first steps of a stage, as the one loop makes them, and what is seen after each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_train.engine import loop
from reid_train.engine.log import LOG, read_log
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import Runtime
from reid_train.engine.task import BatchSource, Hook, ReidTask, Stage

# Of each parameter that trains: learning rate and weight decay.
Rule = dict[str, tuple[float, float]]


def steps_of(
    task: ReidTask,
    stage: Stage,
    runtime: Runtime,
    folder: Path,
    *,
    epochs: int,
    after: Callable[[ReidTask, Rule], None],
) -> list[float]:
    """The losses of the first ``epochs`` of ``stage``, whose curves are those of all its epochs;
    ``after`` is called when the optimiser has stepped.
    """
    fields = {f: getattr(stage.optimiser, f) for f in Optimiser.__dataclass_fields__}
    seen = _Seen(**fields)
    watch = _Watch(epochs, after, seen.built)
    stage = replace(stage, optimiser=seen, hooks=[*stage.hooks, watch])
    with contextlib.suppress(_Over):
        loop.train(task, [stage], runtime=runtime, folder=folder)
    return [entry["loss"] for entry in read_log(folder / LOG) if entry["event"] == "step"]


@dataclass
class Steps:
    """What each step was given and left: batches; losses; learning rate and weight decay of each
    parameter that trains; all parameters and buffers.
    """

    batches: list[dict[str, Tensor]] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    states: list[dict[str, Tensor]] = field(default_factory=list)


def recorded(task: ReidTask, stage: Stage, runtime: Runtime, folder: Path, *, epochs: int) -> Steps:
    """Everything about the first ``epochs`` of a small task."""
    found = Steps()

    def after(task: ReidTask, rule: Rule) -> None:
        found.rules.append(rule)
        named = [*task.named_parameters(), *task.named_buffers()]
        found.states.append({name: value.detach().clone() for name, value in named})

    kept = replace(stage, batches=_Kept(stage.batches, found.batches))
    found.loss = steps_of(task, kept, runtime, folder, epochs=epochs, after=after)
    return found


def assert_moved_alike(own: Tensor, expected: Tensor, start: Tensor, *, what: str) -> None:
    """Whether two values of a tensor stand at the same place, as seen from where it began. Single
    numbers may differ more: Adam blows up gradients that are hardly more than rounding.
    """
    moved, apart = (expected - start).norm(), (own - expected).norm()
    assert apart <= 1e-5 * moved + 1e-10 * start.numel() ** 0.5, f"{what}: {apart} of {moved}"


class _Kept:
    """Batches of another source, written down as they are asked for."""

    def __init__(self, source: BatchSource, into: list[dict[str, Tensor]]) -> None:
        self.source, self.into = source, into

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        for batch in self.source.epoch(epoch, rank, world):
            self.into.append({name: value.clone() for name, value in batch.items()})
            yield batch


class _Over(Exception):
    """The epochs that were asked for are done."""


@dataclass(frozen=True)
class _Seen(Optimiser):
    """The stage's optimiser, whose object can be looked at afterwards."""

    built: list[torch.optim.Optimizer] = field(default_factory=list)

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        self.built.append(super().build(parameters))
        return self.built[-1]


class _Watch(Hook):
    """Stops after ``epochs``; stands after the hooks of the stage."""

    def __init__(
        self,
        epochs: int,
        after: Callable[[ReidTask, Rule], None],
        built: list[torch.optim.Optimizer],
    ) -> None:
        self.epochs, self.after, self.built = epochs, after, built

    def begin_epoch(self, task: ReidTask, epoch: int) -> None:
        del task
        if epoch == self.epochs:
            raise _Over

    def after_step(self, task: ReidTask) -> None:
        groups = {
            id(parameter): (group["lr"], group["weight_decay"])
            for group in self.built[-1].param_groups
            for parameter in group["params"]
        }
        named = task.named_parameters()
        self.after(task, {n: groups[id(p)] for n, p in named if id(p) in groups})
