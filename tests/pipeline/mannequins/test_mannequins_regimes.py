"""Regimes of generated people: what changes, and that nothing else does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts.steps import Job
from pipeline.artifacts.store import Workspace
from pipeline.datasets.catalogue import load_manifest
from pipeline.datasets.index import read_index
from pipeline.datasets.sources import index_step
from pipeline.mannequins import Plan, camera_of, checked, draw, plan, render
from pipeline.mannequins.identities import identity
from pipeline.terminal.errors import ReidpipeError

REGIMES = [
    v for v in load_manifest("mannequins").variants if v not in ("validation", "other-world")
]


def planned(variant: str = "") -> list[Plan]:
    """All images of a variant of the mannequins."""
    dataset = f"mannequins:{variant}" if variant else "mannequins"
    return plan(dict(index_step(Workspace(Path("nowhere")), dataset).params), Path("nowhere"))


def of_split(plans: list[Plan], *splits: str) -> list[Plan]:
    return [entry for entry in plans if entry.split in splits]


@pytest.mark.parametrize("variant", REGIMES)
def test_the_people_to_be_found_and_their_images_are_those_of_the_default(variant: str):
    plain, regime = (of_split(planned(v), "query", "gallery") for v in ("", variant))
    assert [replace(entry, occluded=None) for entry in regime] == plain
    assert any(entry.occluded is not None for entry in regime) == ("occluded" in variant)
    trained = {entry.pid for entry in of_split(planned(variant), "train")}
    assert trained.isdisjoint(entry.pid for entry in regime)


@pytest.mark.parametrize("variant", [*REGIMES, "other-world"])
def test_every_query_has_a_right_image_of_another_camera(variant: str):
    plans = planned(variant)
    gallery = {(entry.pid, entry.camera) for entry in of_split(plans, "gallery")}
    for query in of_split(plans, "query"):
        assert any(pid == query.pid and camera != query.camera for pid, camera in gallery)


@pytest.mark.parametrize("images", [2, 4, 5, 16])
def test_images_of_a_person_to_train_on_are_of_as_many_cameras_as_can_be(images: int):
    plans = plan(checked({"train_images": images}), Path("nowhere"))
    people: dict[int, list[Plan]] = {}
    for entry in of_split(plans, "train"):
        people.setdefault(entry.pid, []).append(entry)
    assert len(people) == 64 and {len(found) for found in people.values()} == {images}
    for found in people.values():
        counts = Counter(entry.camera for entry in found)
        assert len(counts) == min(4, images) and max(counts.values()) - min(counts.values()) <= 1
    if images == 2:
        pairs = Counter(frozenset(entry.camera for entry in found) for found in people.values())
        assert len(pairs) == 6


def test_few_images_and_few_people_are_among_the_many():
    def trained(variant: str) -> set[tuple[int, int, int]]:
        return {
            (entry.pid, entry.camera, entry.index) for entry in of_split(planned(variant), "train")
        }

    assert len(trained("images-2")) == 128 and len(trained("images-4")) == 256
    assert trained("images-2") < trained("images-4") < trained("")
    assert plan(checked({"train_images": 16}), Path("nowhere")) == planned()
    assert trained("people-16") < trained("") < trained("people-256")
    people = {pid for pid, _, _ in trained("people-256")}
    assert len(people) == 256
    # A twin is on the side of its original, on both ends of those to be found.
    assert all(identity(0, pid).twin_of in people | {None} for pid in people)


def test_people_to_be_found_may_end_within_a_group_of_twins():
    params = {"identities": {"train": 6, "test": 5}, "first_test_person": 5}
    plans = plan(checked(params), Path("nowhere"))
    assert sorted({entry.pid for entry in of_split(plans, "query")}) == [5, 6, 7, 8, 9]
    assert sorted({entry.pid for entry in of_split(plans, "train")}) == [1, 2, 3, 4, 13, 14]


def test_training_cameras_are_none_of_the_test():
    plans = planned("unseen-cameras")
    assert {entry.camera for entry in of_split(plans, "train")} == {4, 5, 6, 7}
    assert {entry.camera for entry in of_split(plans, "query", "gallery")} == {0, 1, 2, 3}
    assert load_manifest("mannequins:unseen-cameras").validation is None


@pytest.mark.parametrize(
    ("variant", "counts"),
    [("unoccluded", (0, 0)), ("occluded-third", (43, 128)), ("occluded-two-thirds", (85, 256))],
)
def test_a_stated_share_of_the_images_is_occluded(variant: str, counts: tuple[int, int]):
    plans = planned(variant)
    for split, count in zip(("query", "gallery"), counts, strict=True):
        assert sum(bool(entry.occluded) for entry in of_split(plans, split)) == count
    assert {entry.occluded for entry in of_split(plans, "train")} == {None}


def test_a_larger_share_occludes_the_same_images_and_more():
    third, most = (
        {entry.stem for entry in planned(f"occluded-{share}") if entry.occluded}
        for share in ("third", "two-thirds")
    )
    assert third < most


def test_an_occluder_changes_what_it_hides_and_nothing_else():
    sharp = next(
        n for n in range(50) if camera_of(0, n).jpeg is None and camera_of(0, n).rows >= 200
    )
    alike = 0
    for pid in range(1, 9):
        free, behind = (draw(0, pid, sharp, 1, occluded=occluded) for occluded in (False, True))
        assert free.occluder == "" and behind.occluder != ""
        assert f", partly hidden by a {behind.occluder}." in behind.caption
        same = behind.label == free.label
        assert not behind.label[~same].any()  # what is hidden is background
        assert (behind.label > 0).sum() <= 0.8 * (free.label > 0).sum()
        apart = np.abs(behind.image.astype(int) - free.image).max(axis=2)
        alike += int((apart[behind.label > 0] == 0).mean() > 0.5)
    assert alike >= 7


def test_images_without_an_occluder_are_those_that_chance_left_without():
    found = [(draw(0, pid, 0, 0), draw(0, pid, 0, 0, occluded=False)) for pid in range(1, 21)]
    assert {chance.occluder != "" for chance, _ in found} == {True, False}
    for chance, free in found:
        if not chance.occluder:
            assert np.array_equal(chance.image, free.image)


def test_a_regime_is_rendered_as_planned(tmp_path: Path):
    params = {
        "identities": {"train": 4, "test": 4}, "cameras": 2, "images": 3, "size": [64, 32],
        "train_images": 2, "first_train_camera": 2, "occlusion": {"query": 0.5, "gallery": 1},
    }  # fmt: skip
    job = Job(tmp_path, params, {}, tmp_path)
    summary = render(job)
    assert summary["unmatched_queries"] == [] and summary["images"] == 4 * 2 + 4 * 2 * 3
    rows = {row.key: row for row in read_index(tmp_path).rows}
    for entry in plan(checked(params), tmp_path):
        row = rows[f"images/{entry.stem}.jpg"]
        assert (row.pid, row.camid) == (entry.pid, entry.camera)
        if entry.occluded is not None:
            assert ("partly hidden by" in row.extra["caption"]) == entry.occluded


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"train_images": 1}, "found train_images 1; expected at least 2"),
        ({"first_test_person": 66}, "found first_test_person 66; .*type first_test_person=65"),
        ({"first_train_camera": -1}, "found first_train_camera -1"),
        ({"first_train_camera": 4, "disjoint_cameras": True}, "without disjoint_cameras"),
        ({"occlusion": {"query": 1.5}}, "found occlusion .*expected shares from 0 to 1"),
        ({"occlusion": {"test": 0.5}}, "of train, query, gallery"),
        ({"occlusion": 0.5}, "found occlusion 0.5"),
        ({"occlusoin": {}}, "did you mean 'occlusion'"),
    ],
)
def test_regimes_that_there_cannot_be(params: dict[str, object], words: str):
    with pytest.raises(ReidpipeError, match=words):
        checked(params)
