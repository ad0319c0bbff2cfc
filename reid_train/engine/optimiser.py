"""What steps the parameters, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn


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
