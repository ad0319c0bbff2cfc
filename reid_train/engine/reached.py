"""What a training has reached: at its end, and at the end of each epoch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reid_train.engine.log import Log
from reid_train.engine.task import Stage


@dataclass(frozen=True)
class TrainResult:
    """``figures``: means over the last epoch of the losses by name, of their sum ``loss`` and of
    what the task reports; ``images`` and ``seconds`` of the whole run, all sessions.
    """

    figures: dict[str, float]
    epochs: int
    steps: int
    images: int
    seconds: float

    @property
    def images_per_s(self) -> float:
        return self.images / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class EpochEnd:
    """An epoch that is over and saved. epoch: from 0, in ``stage``. number: from 1, over all
    stages; last: the highest. weights: of the task, as it would be left were it the last:
    to be used before the call returns. result: of the training until here.
    """

    stage: Stage
    epoch: int
    number: int
    last: bool
    weights: dict[str, Tensor]
    result: TrainResult
    log: Log
