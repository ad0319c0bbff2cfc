"""Factors on the learning rates, as functions of the position alone."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol


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
