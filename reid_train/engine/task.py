"""What the training loop is given: a task, and stages that say what trains on which batches.

Nothing here knows a method. A method is a task (model, heads, losses in one module) plus stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.schedules import Constant, Schedule

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

    def embed(self, images: Tensor) -> Tensor:
        """Retrieval features N,D of images N,3,H,W in 0..1, for hooks that compare images."""
        del images
        raise TypeError(f"a {type(self).__name__} has no retrieval features")

    def active_losses(self) -> list[nn.Module]:
        """The losses of the stage that has begun, for hooks that fill their memories."""
        return []


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


@dataclass
class Stage:
    """One part of a training run.

    trains: parameter-name patterns with their learning-rate multipliers; the last pattern that
    matches a name decides, 0 or no match freezes it. accumulate: batches per optimiser step
    (gradients are averaged). clip: largest gradient norm. ema: decay of a running average of all
    weights, which replaces them when the stage ends.
    """

    name: str
    epochs: int
    batches: BatchSource
    optimiser: Optimiser = field(default_factory=Optimiser)
    schedule: Schedule = field(default_factory=Constant)
    trains: Sequence[tuple[str, float]] = (("*", 1.0),)
    accumulate: int = 1
    clip: float | None = None
    ema: float | None = None
    hooks: Sequence[Hook] = ()

    def select(self, names: Sequence[str]) -> dict[str, float]:
        """Name -> multiplier of those that train.

        Raises ReidpipeError for a pattern that matches nothing and when nothing trains.
        """
        chosen: dict[str, float] = {}
        for pattern, multiplier in self.trains:
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
                "type trains: [['*', 1.0]]"
            )
        return chosen
