"""Sizes, options and batches that a network makes nothing of are told before anything is read."""

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


@pytest.mark.parametrize(
    ("recipe", "option", "reason"),
    [
        ("slicenet2", {"slices": "3"}, "multiple of 24"),
        ("slicenet2", {"slices": "0"}, "zero"),
        ("baseline-vit", {"stride": "0"}, "zero"),
        ("baseline-vit", {"heads": "7"}, "divisible"),
        ("baseline-vit", {"width": "-1"}, "makes nothing"),
    ],
)
def test_options_that_do_not_fit_are_one_line(recipe: str, option: dict[str, str], reason: str):
    settings = {f"model.options.{name}": value for name, value in option.items()}
    with pytest.raises(ReidpipeError) as told:
        check_made(load_recipe(recipe, settings))
    line = str(told.value)
    assert line.startswith("found model.options {") and reason in line and "\n" not in line


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        (
            "baseline-tiny",
            {"ids": "1", "images_per_id": "4"},
            r"1 person.*triplet.*--set stages\.image\.data\.ids=2$",
        ),
        ("bignet", {"batch": "1"}, r"1 image.*batch norm.*--set stages\.\w+\.data\.batch=2$"),
    ],
)
def test_batches_of_which_nothing_is_learnt_are_one_line(recipe, settings, message):
    stage = {f"stages.0.data.{name}": value for name, value in settings.items()}
    with pytest.raises(ReidpipeError, match=message):
        check_made(load_recipe(recipe, stage))


def test_batch_norms_that_nothing_trains_are_one_line():
    with pytest.raises(ReidpipeError, match="neck=after and no loss or head .* leave neck out"):
        check_made(load_recipe("clip-reid-tiny", {"model.options.neck": "after"}))


def test_prompts_are_tuned_before_a_trunk_with_a_neck():
    heads = "model.heads.identity.on"
    check_made(load_recipe("pi-vl-tiny", {"model.options.neck": "after", heads: "embedding"}))


def test_one_person_a_batch_is_enough_for_losses_that_compare_nobody():
    losses = "[{loss: cross-entropy, on: identity}]"
    check_made(load_recipe("baseline-tiny", {"stages.0.data.ids": "1", "stages.0.losses": losses}))
