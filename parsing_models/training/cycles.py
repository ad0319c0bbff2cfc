"""When SCHP's training does what: rates, and the cycles of self-correction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from parsing_models.training.batches.labelled import NONE, LabelledBatches
from parsing_models.training.manner import PUBLISHED, Manner
from parsing_models.training.self_correction import SelfCorrection
from reid_train.engine.optimiser import Optimiser
from reid_train.engine.runtime import derive_seed
from reid_train.engine.schedules import Cosine
from reid_train.engine.task import Stage


@dataclass(frozen=True)
class Restarts:
    """Factor on the rate, once per epoch: from ``floor`` to 1 over ``warmup`` epochs, along half a
    cosine back to ``floor`` at epoch ``start``, and from there half a cosine from ``peak`` to
    ``floor`` in every ``length`` epochs (Loshchilov & Hutter, SGDR, ICLR 2017; SCHP's code).
    """

    warmup: int
    start: int
    length: int
    peak: float = 0.5
    floor: float = 0.01

    def __call__(self, epoch: int, step: int, steps: int, epochs: int) -> float:
        del step, steps, epochs
        if epoch < self.warmup:
            return self.floor + (1 - self.floor) * epoch / self.warmup
        if epoch < self.start:
            return self._cosine(1.0, (epoch - self.warmup) / (self.start - self.warmup))
        return self._cosine(self.peak, (epoch - self.start) % self.length / self.length)

    def _cosine(self, peak: float, done: float) -> float:
        return self.floor + (peak - self.floor) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Schedule:
    """The published one by default; the floor is a share of the rate."""

    epochs: int = 100
    warmup: int = 10
    cycles: int = 5
    cycle_epochs: int = 10
    lr: float = 7e-3
    floor: float = 0.01
    manner: Manner = PUBLISHED

    def correction(
        self, batches: LabelledBatches, score: Callable[[nn.Module], float]
    ) -> SelfCorrection:
        """The teacher of the cycles. score: mIoU of a network, asked after every average."""
        plain = replace_batches(batches, "norms", augmented=self.manner.augmented)
        if not self.manner.one_optimiser:
            return SelfCorrection(plain, score)
        return SelfCorrection(plain, score, start=self.epochs, length=self.cycle_epochs)

    def stages(self, batches: LabelledBatches, correction: SelfCorrection) -> list[Stage]:
        """The first training, then the cycles: as one stage, or each with an optimiser, and a rate
        that falls with every step, of its own.
        """
        sgd = Optimiser("sgd", lr=self.lr, momentum=0.9, weight_decay=5e-4)
        if self.manner.one_optimiser:
            rates = Restarts(self.warmup, self.epochs, self.cycle_epochs, floor=self.floor)
            epochs = self.epochs + self.cycles * self.cycle_epochs
            return [Stage("schp", epochs, batches, sgd, rates, hooks=[correction])]
        warm = Cosine(final_factor=self.floor, warmup_epochs=self.warmup, per="step")
        listed = [Stage("schp", self.epochs, batches, optimiser=sgd, schedule=warm)]
        for number in range(1, self.cycles + 1):
            again = Cosine(final_factor=2 * self.floor, per="step")
            listed.append(
                Stage(
                    f"cycle-{number}",
                    self.cycle_epochs,
                    replace_batches(batches, "cycle", number),
                    optimiser=replace(sgd, lr=self.lr / 2),
                    schedule=again,
                    hooks=[correction],
                )
            )
        return listed


def replace_batches(
    batches: LabelledBatches, *purpose: object, augmented: bool = True
) -> LabelledBatches:
    """The same images in an order of their own, augmented or as they are."""
    return LabelledBatches(
        batches.root,
        batches.rows,
        batches.label_set,
        batches.given,
        batch=batches.batch,
        seed=derive_seed(batches.seed, *purpose),
        variation=batches.variation if augmented else NONE,
        workers=batches.workers,
        decoding=batches.decoding,
    )
