"""Options are compared with what a signature asks for, before anything is made of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import pytest
import torch

from pipeline.plugins import Door
from pipeline.plugins.options import check_options, check_values
from pipeline.terminal.errors import ReidpipeError
from reid_train.data import SAMPLERS
from reid_train.engine import SCHEDULES
from reid_train.hooks import HOOKS
from reid_train.losses import LOSSES
from reid_train.models import HEADS, TRUNKS

# What the assembly gives.
NOT_FROM_FILES = {"batches", "runtime", "texts", "labels", "camids", "cameras", "weights"}


def factory(
    *,
    bias: bool = True,
    margin: float | None = 0.3,
    dim: int = 8,
    kind: Literal["a", "b"] = "a",
    size: tuple[int, int] = (2, 1),
    widths: Sequence[float] = (),
    weight: torch.Tensor | None = None,
    untyped=None,
) -> None: ...


@pytest.mark.parametrize(
    "options",
    [
        {"bias": False, "margin": 1, "dim": 3, "kind": "b", "size": [4, 2], "widths": [1, 0.5]},
        {"margin": None},
        {"weight": "what no file can hold is left to the factory"},
        {"untyped": "anything"},
    ],
)
def test_values_of_the_type_are_taken(options: dict[str, Any]):
    check_options(factory, options, "losses 'mine'")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bias", "no"),
        ("bias", 1),
        ("margin", "nan"),
        ("margin", True),
        ("dim", 3.5),
        ("dim", "3"),
        ("kind", "c"),
        ("size", [4, 2, 1]),
        ("size", 4),
        ("widths", ["wide"]),
        ("dim", None),
    ],
)
def test_values_of_another_type_are_refused_in_one_line(option: str, value: Any):
    with pytest.raises(ReidpipeError) as told:
        check_options(factory, {option: value}, "losses 'mine'")
    assert f"found {option}={value!r} for losses 'mine'; expected " in str(told.value)
    assert f"type {option}=VALUE" in str(told.value) and "\n" not in str(told.value)


def test_the_type_is_told_as_the_signature_writes_it():
    with pytest.raises(ReidpipeError, match=r"expected float \| None; type margin=VALUE"):
        check_values(functools.partial(factory, dim=3), {"margin": "wide"}, "losses 'mine'")


class Words(TypedDict):
    """Of ``typing``, which pydantic refuses before Python 3.12."""

    word: str


@pytest.mark.parametrize("wanted", ["Nowhere", "torch.Nowhere", "1 +", Words, torch.Tensor])
def test_a_type_that_cannot_be_found_is_left_to_the_factory(wanted: Any):
    def mine(*, dim=None) -> None: ...

    mine.__annotations__["dim"] = wanted
    check_options(mine, {"dim": {"word": "text"}}, "losses 'mine'")


@pytest.mark.parametrize("door", [HEADS, HOOKS, LOSSES, SAMPLERS, SCHEDULES, TRUNKS])
def test_every_option_of_our_own_has_a_type_that_a_value_can_miss(door: Door):
    for name in door.own:
        parameters = inspect.signature(door[name]).parameters.values()
        options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - NOT_FROM_FILES
        for option in options:
            with pytest.raises(ReidpipeError, match=f"found {option}="):
                check_values(door[name], {option: {"of": ["no", {"type": "known"}]}}, "here")
