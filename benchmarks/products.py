"""Products and convolutions of a training step, each alone: what no step can be faster than.

``benchmarks.steps`` prints them beside its rows; a file of their own since nothing here trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.recipe.assembly import build_task
from reid_train.recipe.loading import load_recipe

HEIGHT, WIDTH = 256, 128
Way = Callable[[], None]


def of_images(name: str, batch: int) -> Way:
    """Convolutions or matrix products of a step forward and backward, each on inputs of its own."""
    calls: list[Way] = []
    if name == "vit":
        tokens, width = HEIGHT * WIDTH // 256 + 1, 768
        for rows, inner, outer, times in (
            (batch * tokens, width, 3 * width, 11),
            (batch * tokens, width, width, 11),
            (batch * tokens, width, 4 * width, 11),
            (batch * tokens, 4 * width, width, 11),
            (batch * (tokens - 1), 3 * 256, width, 1),
        ):
            x, weight = torch.randn(rows, inner), torch.randn(outer, inner)
            given = torch.randn(rows, outer)
            calls += [lambda x=x, w=weight, g=given: _linear(x, w, g)] * times
        return lambda: run_all(calls)
    trunk: Any = build_task(load_recipe("baseline-rn50"), classes=2).model.trunk
    trunk = trunk.to(memory_format=torch.channels_last)
    seen: list[Any] = []  # convolution, input, output
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, x, y: seen.append((m, x[0], y)))
    images = torch.randn(batch, 3, HEIGHT, WIDTH).to(memory_format=torch.channels_last)
    with torch.no_grad():
        trunk(images)
    calls = [lambda one=one: _convolution(*one) for one in seen]
    return lambda: run_all(calls)


def of_prompts(identities: int, *, width: int = 512, blocks: int = 12) -> Way:
    """Products of the 7 positions of each prompt that differ, forward and to their inputs."""
    sizes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    calls: list[Way] = []
    for block in range(blocks):
        for place, (inner, outer) in enumerate(sizes):
            # The last block is read at the end token: keys and values alone are of all positions.
            rows = identities * (7 if block + 1 < blocks or place == 0 else 1)
            x, weight, given = (torch.randn(*n) for n in ((rows, inner), (outer, inner),
                                                          (rows, outer)))  # fmt: skip
            calls.append(lambda x=x, w=weight, g=given: _linear(x, w, g, learns=False))
    return lambda: run_all(calls)


def run_all(calls: Iterable[Way]) -> None:
    for call in calls:
        call()


def _linear(x: Tensor, weight: Tensor, given: Tensor, learns: bool = True) -> None:
    F.linear(x, weight)
    torch.mm(given, weight)
    if learns:
        torch.mm(given.T, x)


def _convolution(module: nn.Conv2d, x: Tensor, given: Tensor) -> None:
    module(x)
    torch.ops.aten.convolution_backward(
        given, x, module.weight, None, module.stride, module.padding, module.dilation, False,
        [0, 0], 1, [x.shape[1] != 3, True, False],
    )  # fmt: skip
