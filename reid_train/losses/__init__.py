"""The losses a recipe may name: ``LOSSES[name](**options)(input, labels) -> scalar float32``."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from reid_train.losses.identity import CrossEntropy
from reid_train.losses.triplet import Triplet

LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross-entropy": CrossEntropy,
    "triplet": Triplet,
}
