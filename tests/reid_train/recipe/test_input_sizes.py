"""Sizes of images that a network makes nothing of are told before anything is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.terminal.errors import ReidpipeError
from reid_train.models import TRUNKS
from reid_train.recipe.checks import check_made
from reid_train.recipe.loading import load_recipe


@pytest.mark.parametrize(
    ("recipe", "size"),
    [
        ("baseline-tiny", (1, 1)),
        ("baseline-tiny", (40, 40)),
        ("slicenet1", (48, 24)),
        ("pi-vl-tiny", (1, 1)),
        ("baseline-vit", (8, 8)),
    ],
)
def test_a_size_that_does_not_fit_is_one_line(recipe: str, size: tuple[int, int]):
    with pytest.raises(ReidpipeError) as told:
        check_made(load_recipe(recipe, {"input.size": str(list(size))}))
    line = str(told.value)
    assert line.startswith(f"found input.size {list(size)}, of which '") and "\n" not in line
    assert line.endswith("type --set input.size=[256, 128]")


def test_a_network_that_fits_nothing_keeps_its_own_error(monkeypatch: pytest.MonkeyPatch):
    class Broken(TRUNKS["tiny"]):
        def forward(self, images: Tensor, **_: Any) -> dict[str, Tensor]:
            return {"embedding": images.flatten(1) @ torch.zeros(3, 4)}

    monkeypatch.setitem(TRUNKS.own, "tiny", Broken)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        check_made(load_recipe("baseline-tiny"))
