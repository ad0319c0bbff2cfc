"""What the training loop is given: a task, and stages that say what trains on which batches.

Nothing here knows a method. A method is a task (model, heads, losses in one module) plus stages.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.errors import ReidpipeError, nearest

Losses = dict[str, Tensor]
Report = dict[str, float | Tensor]


class ReidTask(nn.Module):
    """Model, training-only heads and losses in one module."""

    def training_forward(self, batch: dict[str, Tensor]) -> tuple[Losses, Report]:
        """Scalar losses by name, already weighted (the loop adds them up and differentiates the
        sum), and figures to log that carry no gradient.
        """
        raise NotImplementedError

    def forward(self, batch: dict[str, Tensor]) -> tuple[Losses, Report]:
        # DistributedDataParallel intercepts forward and nothing else.
        return self.training_forward(batch)

    def begin_stage(self, name: str) -> None:
        """Called before a stage's hooks, on resume too: select its losses, set frozen parts."""


class BatchSource(Protocol):
    """Where a stage's batches come from. A batch is a dict of CPU tensors, the first of which has
    one row per image; an epoch depends on nothing but the source's own seed and the arguments.
    """

    def __len__(self) -> int:
        """Steps per epoch, the same for every world size."""
        ...

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        """Batches of epoch 0, 1, ...: this rank's equal share of each global batch."""
        ...


def share(batch: int, together: int, rank: int, world: int) -> slice:
    """This process's rows of a global batch. Raises ReidpipeError when shares would be unequal."""
    groups = batch // together
    if groups % world:
        what = "identities" if together > 1 else "images"
        raise ReidpipeError(
            f"found {world} processes for batches of {groups} {what}; expected a number that "
            f"divides {groups}; type torchrun --nproc-per-node with one"
        )
    size = groups // world * together
    return slice(rank * size, (rank + 1) * size)


class Hook:
    """Work beside the gradient steps: build a memory, encode texts, cluster. All methods optional.

    What a hook keeps must be in ``state_dict`` (tensors and plain values) or be a buffer of the
    task; both are saved. ``begin_stage`` also runs on resume, before the saved values come back.
    """

    def begin_stage(self, task: ReidTask) -> None: ...

    def begin_epoch(self, task: ReidTask, epoch: int) -> Mapping[str, float] | None:
        """Figures to log, if any. Not called again when an epoch is resumed in its middle."""

    def after_step(self, task: ReidTask) -> None:
        """Called when the optimiser has stepped."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Schedule(Protocol):
    """Factor on every learning rate, as a function of the position alone: nothing to save."""

    def __call__(self, epoch: int, step: int, steps: int, epochs: int) -> float:
        """For ``step`` of ``steps`` in ``epoch`` of ``epochs``, all counted from 0."""
        ...


@dataclass(frozen=True)
class Constant:
    """No change."""

    def __call__(self, epoch: int, step: int, steps: int, epochs: int) -> float:
        del epoch, step, steps, epochs
        return 1.0


@dataclass(frozen=True)
class WarmupMultistep:
    """Linear from ``warmup_factor`` to 1 over ``warmup_epochs``, times ``gamma`` from each
    milestone on; changes once per epoch.

    ``first_epoch`` is the number the first epoch has in the formula: 1 in CLIP-ReID, which steps
    its schedule when an epoch begins (so factor ``warmup_factor`` itself is never used), 0 in
    PCL-CLIP, which steps at the end.
    """

    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_epochs: int = 0
    warmup_factor: float = 0.01
    first_epoch: int = 1

    def __call__(self, epoch: int, step: int, steps: int, epochs: int) -> float:
        del step, steps, epochs
        number = epoch + self.first_epoch
        factor = 1.0
        if number < self.warmup_epochs:
            done = number / self.warmup_epochs
            factor = self.warmup_factor * (1 - done) + done
        return factor * self.gamma ** bisect_right(sorted(self.milestones), number)


@dataclass(frozen=True)
class Cosine:
    """From 1 to ``final_factor`` along half a cosine. The first ``warmup_epochs`` rise linearly
    from ``warmup_factor`` to 1 instead, and the cosine is entered where it then stands (timm's
    ``warmup_prefix=False``, CLIP-ReID stage 1).

    per: ``epoch`` changes once per epoch, ``step`` continuously. ``first_epoch`` as above.
    """

    final_factor: float = 0.0
    warmup_epochs: int = 0
    warmup_factor: float = 0.01
    first_epoch: int = 0
    per: str = "epoch"

    def __call__(self, epoch: int, step: int, steps: int, epochs: int) -> float:
        at = epoch + self.first_epoch + (step / steps if self.per == "step" else 0.0)
        if at < self.warmup_epochs:
            return self.warmup_factor + (1 - self.warmup_factor) * at / self.warmup_epochs
        half = 0.5 * (1 + math.cos(math.pi * min(at / epochs, 1.0)))
        return self.final_factor + (1 - self.final_factor) * half


@dataclass(frozen=True)
class HeldCosine:
    """``held_factor`` for ``held_epochs``, then along half a cosine from 1; changes once per epoch.

    As in the prompt learners' training code, the cosine begins anew after the held epochs but is
    as long as all epochs together, so it ends a little above 0.
    """

    held_epochs: int = 1
    held_factor: float = 0.005

    def __call__(self, epoch: int, step: int, steps: int, epochs: int) -> float:
        del step, steps
        if epoch < self.held_epochs:
            return self.held_factor
        return 0.5 * (1 + math.cos(math.pi * (epoch - self.held_epochs) / epochs))


@dataclass(frozen=True)
class OneCycle:
    """Smith & Topin 2018 with cosine halves, per step: up from 1/``start_division`` to 1 over the
    first ``rise`` of all steps, down to 1/``final_division`` at the last.

    Learning rate only: torch's OneCycleLR also turns Adam's beta1 or the momentum, this does not.
    """

    rise: float = 0.3
    start_division: float = 25.0
    final_division: float = 1e4

    def __call__(self, epoch: int, step: int, steps: int, epochs: int) -> float:
        at = (epoch * steps + step) / max(epochs * steps - 1, 1)
        low, high = 1 / self.start_division, 1.0
        if at < self.rise:
            return _cosine_between(low, high, at / self.rise)
        return _cosine_between(high, 1 / self.final_division, (at - self.rise) / (1 - self.rise))


def _cosine_between(start: float, end: float, part: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * part))


SCHEDULES: dict[str, type] = {
    "constant": Constant,
    "warmup-multistep": WarmupMultistep,
    "cosine": Cosine,
    "one-cycle": OneCycle,
}


@dataclass(frozen=True)
class Optimiser:
    """What ``build`` makes: ``adam`` (weight decay inside the gradient), ``adamw`` or ``sgd``.

    Parameters whose name contains "bias" (``in_proj_bias`` too) get ``lr * bias_lr`` and
    ``bias_weight_decay``; names matching a pattern of ``no_decay`` get no weight decay, and so do
    vectors and scalars (norms, biases, scales) when ``decay_matrices_only``.
    """

    kind: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    bias_lr: float = 1.0
    bias_weight_decay: float | None = None
    no_decay: tuple[str, ...] = ()
    decay_matrices_only: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.9
    nesterov: bool = False

    def build(self, parameters: Mapping[str, tuple[nn.Parameter, float]]) -> torch.optim.Optimizer:
        """``parameters``: name -> (parameter, lr multiplier). Each group keeps its own full rate
        as ``base_lr``, which the loop multiplies by the schedule's factor.
        """
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, (parameter, multiplier) in parameters.items():
            rule = self._rule(name, parameter)
            groups.setdefault((self.lr * multiplier * rule[0], rule[1]), []).append(parameter)
        listed = [
            {"params": members, "lr": lr, "base_lr": lr, "weight_decay": decay}
            for (lr, decay), members in groups.items()
        ]
        if self.kind == "sgd":
            return torch.optim.SGD(
                listed, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov
            )
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        return kinds[self.kind](listed, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def _rule(self, name: str, parameter: nn.Parameter) -> tuple[float, float]:
        bias = "bias" in name
        decay = self.weight_decay
        if bias and self.bias_weight_decay is not None:
            decay = self.bias_weight_decay
        spared = any(fnmatchcase(name, pattern) for pattern in self.no_decay)
        if spared or (self.decay_matrices_only and parameter.ndim < 2):
            decay = 0.0
        return (self.bias_lr if bias else 1.0), decay


@dataclass
class Stage:
    """One part of a training run.

    trains: parameter-name pattern -> learning-rate multiplier; the last pattern that matches a
    name decides, 0 or no match freezes it. accumulate: batches per optimiser step (gradients are
    averaged). clip: largest gradient norm. ema: decay of a running average of all weights, which
    replaces them when the stage ends.
    """

    name: str
    epochs: int
    batches: BatchSource
    optimiser: Optimiser = field(default_factory=Optimiser)
    schedule: Schedule = field(default_factory=Constant)
    trains: Mapping[str, float] = field(default_factory=lambda: {"*": 1.0})
    accumulate: int = 1
    clip: float | None = None
    ema: float | None = None
    hooks: Sequence[Hook] = ()

    def select(self, names: Sequence[str]) -> dict[str, float]:
        """Name -> multiplier of those that train.

        Raises ReidpipeError for a pattern that matches nothing and when nothing trains.
        """
        chosen: dict[str, float] = {}
        for pattern, multiplier in self.trains.items():
            matched = [name for name in names if fnmatchcase(name, pattern)]
            if not matched:
                raise ReidpipeError(
                    f"found trains pattern '{pattern}' in stage '{self.name}' that matches no "
                    f"parameter{nearest(pattern, names)}; expected patterns of parameter names; "
                    "type '*' for all"
                )
            chosen |= dict.fromkeys(matched, multiplier)
        # The model's own order, whatever the order of the patterns: optimiser state is by index.
        chosen = {name: chosen[name] for name in names if chosen.get(name, 0.0) > 0.0}
        if not chosen:
            raise ReidpipeError(
                f"found no parameter that trains in stage '{self.name}'; expected one at least; "
                "type trains: {'*': 1.0}"
            )
        return chosen
