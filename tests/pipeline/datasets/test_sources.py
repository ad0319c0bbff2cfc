"""A dataset's id becomes the step that makes its index."""

from __future__ import annotations

import pytest

from pipeline.artifacts.store import Workspace
from pipeline.datasets.catalogue import list_manifests, load_manifest
from pipeline.datasets.roots import prepare_root
from pipeline.datasets.sources import index_step
from pipeline.mannequins import DEFAULTS, plan
from pipeline.terminal.errors import ReidpipeError
from tests import trees


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


def test_validation_shows_other_people_in_the_same_scenes(tmp_path):
    workspace = Workspace(tmp_path)
    here, looked = (index_step(workspace, f"mannequins{v}") for v in ("", ":validation"))
    assert looked.params["seed"] == here.params["seed"]  # scenes and cameras
    plans = [plan(dict(step.params), tmp_path) for step in (here, looked)]
    people = [{entry.pid for entry in found} for found in plans]
    assert people[0].isdisjoint(people[1]) and len(people[1]) == 32
    assert {entry.split for entry in plans[1]} == {"query", "gallery"}
    assert len(plans[1]) == 256
    # The default's own parameters, and so its key, know nothing of it.
    assert here.params == DEFAULTS


@pytest.mark.parametrize("first", [0, 2, 4, -3])
def test_people_begin_with_a_whole_group_of_twins(tmp_path, first):
    with pytest.raises(ReidpipeError, match="expected 1 more than a multiple of 4"):
        index_step(Workspace(tmp_path), "mannequins", first_person=first)


def test_every_validation_is_a_dataset_of_its_own():
    named = {m.dataset: m.validation for m in list_manifests() if m.validation}
    assert named["mannequins"] == "mannequins:validation"
    for dataset, validation in named.items():
        found = load_manifest(validation)
        assert found.kind == "reid" and found.dataset != dataset and found.validation is None


def test_the_default_variant_has_one_key_however_it_is_typed(tmp_path):
    root, workspace = trees.prid2011(tmp_path / "tree"), Workspace(tmp_path / "workspace")
    prepare_root("prid2011:split-0", workspace.root, root=root)
    plain, typed, other = (
        index_step(workspace, name) for name in ("prid2011", "prid2011:split-0", "prid2011:split-1")
    )
    assert plain.params["dataset"] == "prid2011" and other.params["dataset"] == "prid2011:split-1"
    assert typed.key == plain.key != other.key
    assert load_manifest("market1501").keyed == "market1501"
    assert load_manifest("mannequins:other-world").keyed == "mannequins:other-world"
