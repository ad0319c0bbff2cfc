"""A running average of a task's weights (Polyak averaging)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def averaged(task: nn.Module) -> dict[str, Tensor]:
    """Where an average begins: the floating-point entries of the state as they are."""
    return {key: value.clone() for key, value in _floats(task)}


@torch.no_grad()
def average(ema: dict[str, Tensor], task: nn.Module, decay: float) -> None:
    """Move ``ema`` towards the task's state, in place."""
    for key, value in _floats(task):
        ema[key].lerp_(value, 1 - decay)


def _floats(task: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((k, v.detach()) for k, v in task.state_dict().items() if v.is_floating_point())
