"""SCHP's self-correction: cycles of training, an average over their ends, labels refined by it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from parsing_models.networks.schp.network import ABN
from parsing_models.training.task import ParsingTask
from reid_train.engine.task import BatchSource, Hook, ReidTask

log = logging.getLogger(__name__)


class SelfCorrection(Hook):
    """The averaged network of Li et al. (2019), section 3.3; one object for all cycles.

    Attach it to the stage of every cycle, or to one stage of which cycles begin at epoch ``start``
    and every ``length`` epochs. When cycle n = 1, 2, ... begins, the student that was trained until
    then is averaged in, with weight 1 / n: cycle 1 starts from the student alone. Batch-norm
    statistics of the average are then estimated anew over ``batches``. The labels of cycle n are
    refined by the average, trusted n / (n + 1). After training, ``finish`` averages the last
    student in and puts the result into the task.

    score(network) -> mIoU is asked after every average and logged; ``history`` keeps the answers.
    Under torchrun every process asks, so that all have the same history and none waits for another.
    """

    def __init__(
        self,
        batches: BatchSource,
        score: Callable[[nn.Module], float] | None = None,
        *,
        start: int | None = None,
        length: int = 1,
    ) -> None:
        self.batches, self.score = batches, score
        self.start, self.length = start, length
        self.average: nn.Module | None = None
        self.task: ParsingTask | None = None
        self.cycle = 0
        self.history: list[float] = []

    def begin_stage(self, task: ReidTask) -> None:
        assert isinstance(task, ParsingTask)
        self.task = task
        if self.start is None:
            self._merge(task)
            self._refine()

    def begin_epoch(self, task: ReidTask, epoch: int) -> Mapping[str, float] | None:
        del task
        if self.start is None or epoch < self.start or (epoch - self.start) % self.length:
            return None
        assert self.task is not None
        self._merge(self.task)
        self._refine()
        return {"cycle": self.cycle, **({"mIoU": self.history[-1]} if self.history else {})}

    def finish(self, task: ParsingTask) -> None:
        """Average the last cycle's student in; the task's network becomes the average."""
        self._merge(task)
        assert self.average is not None
        task.correct(None, 0.0)
        task.network.load_state_dict(self.average.state_dict())

    def state_dict(self) -> dict[str, Any]:
        average = {} if self.average is None else self.average.state_dict()
        return {"average": average, "cycle": self.cycle, "history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert self.task is not None  # begin_stage has run
        self.cycle, self.history = state["cycle"], list(state["history"])
        if not state["average"]:
            return
        self._begun(self.task).load_state_dict(state["average"])
        self._refine()

    def _refine(self) -> None:
        assert self.task is not None
        self.task.correct(self.average, self.cycle / (self.cycle + 1))

    def _begun(self, task: ParsingTask) -> nn.Module:
        if self.average is None:
            self.average = copy.deepcopy(task.network).eval().requires_grad_(False)
        return self.average

    @torch.no_grad()
    def _merge(self, task: ParsingTask) -> None:
        average = self._begun(task)
        self.cycle += 1
        for mean, parameter in zip(average.parameters(), task.network.parameters(), strict=True):
            mean.lerp_(parameter.detach().to(mean.dtype), 1 / self.cycle)
        estimate_norms(average, self.batches)
        if self.score is not None:
            self.history.append(self.score(average))
            log.info("average of %d cycles: mIoU %.4f", self.cycle, self.history[-1])


@torch.no_grad()
def estimate_norms(network: nn.Module, batches: BatchSource) -> None:
    """Replace running means and variances by averages over one epoch of ``batches``, each batch
    counted equally; the network is left in eval mode."""
    norms = [m for m in network.modules() if isinstance(m, ABN | nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    sums: list[tuple[Tensor, Tensor]] = [
        (torch.zeros_like(norm.running_mean), torch.zeros_like(norm.running_var))  # type: ignore[arg-type]
        for norm in norms
    ]
    network.train()
    for norm in norms:
        norm.momentum = 1.0  # the statistics of one batch, as it is
    count, like = 0, next(network.parameters())
    for batch in batches.epoch(0, 0, 1):
        network(batch["images"].to(like).contiguous(memory_format=torch.channels_last))
        for (mean, var), norm in zip(sums, norms, strict=True):
            mean += norm.running_mean  # type: ignore[operator]
            var += norm.running_var  # type: ignore[operator]
        count += 1
    for (mean, var), norm in zip(sums, norms, strict=True):
        norm.running_mean = mean / count
        norm.running_var = var / count
        norm.momentum = 0.1
    network.eval()
