"""What steps parameters, by its formulas; parameters, gradients and rules by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Named = dict[str, Tensor]
# Of a parameter's name: learning rate and weight decay.
Rule = Callable[[str], tuple[float, float]]


def gradients(loss: Tensor, parameters: Mapping[str, Tensor]) -> Named:
    """Of all parameters, zeros of those that the loss does not see."""
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    named = zip(parameters.items(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in named}


def leaves(values: Mapping[str, Tensor]) -> Named:
    """The same values in float64, to be differentiated by."""
    return {name: v.detach().double().clone().requires_grad_() for name, v in values.items()}


class Sgd:
    """v = momentum v + (g + decay p); p = p - rate v."""

    def __init__(self, momentum: float = 0.9) -> None:
        self.momentum = momentum
        self.velocity: Named = {}

    def __call__(self, parameters: Named, found: Named, rule: Rule) -> Named:
        stepped = {}
        for name, p in parameters.items():
            rate, decay = rule(name)
            g = found[name] + decay * p.detach()
            kept = self.velocity.get(name)
            self.velocity[name] = g if kept is None else self.momentum * kept + g
            stepped[name] = p.detach() - rate * self.velocity[name]
        return leaves(stepped)


class Adam:
    """Kingma & Ba 2015, algorithm 1, the weight decay inside the gradient."""

    def __init__(self, first: float = 0.9, second: float = 0.999, eps: float = 1e-8) -> None:
        self.first, self.second, self.eps = first, second, eps
        self.mean: Named = {}
        self.square: Named = {}
        self.time = 0

    def __call__(self, parameters: Named, found: Named, rule: Rule) -> Named:
        self.time += 1
        stepped = {}
        for name, p in parameters.items():
            rate, decay = rule(name)
            g = found[name] + decay * p.detach()
            zero = torch.zeros_like(g)
            m = self.first * self.mean.get(name, zero) + (1 - self.first) * g
            v = self.second * self.square.get(name, zero) + (1 - self.second) * g * g
            self.mean[name], self.square[name] = m, v
            unbiased = m / (1 - self.first**self.time), v / (1 - self.second**self.time)
            stepped[name] = p.detach() - rate * unbiased[0] / (unbiased[1].sqrt() + self.eps)
        return leaves(stepped)
