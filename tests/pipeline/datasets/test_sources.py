"""A dataset's id becomes the step that makes its index."""

from __future__ import annotations

import pytest

from pipeline.artifacts.store import Workspace
from pipeline.datasets.sources import index_step
from pipeline.mannequins import DEFAULTS
from pipeline.terminal.errors import ReidpipeError


def test_another_world_differs_from_the_default_in_its_seed_alone(tmp_path):
    workspace = Workspace(tmp_path)
    here, there = (index_step(workspace, f"mannequins{v}") for v in ("", ":other-world"))
    assert here.params == DEFAULTS
    assert there.params == {**DEFAULTS, "dataset": "mannequins:other-world", "seed": 1}
    assert there.kind == here.kind
    assert there.key != here.key


def test_what_a_caller_asks_for_goes_before_the_variant(tmp_path):
    step = index_step(Workspace(tmp_path), "mannequins:other-world", seed=7, cameras=2)
    assert (step.params["seed"], step.params["cameras"]) == (7, 2)


def test_unknown_variant_names_the_nearest(tmp_path):
    with pytest.raises(ReidpipeError, match="did you mean 'other-world'"):
        index_step(Workspace(tmp_path), "mannequins:other-word")
