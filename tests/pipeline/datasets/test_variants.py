"""Variants that are typed together."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.artifacts.store import Workspace
from pipeline.datasets.catalogue import load_manifest, parse_manifest
from pipeline.datasets.sources import index_step
from pipeline.terminal.errors import ReidpipeError
from tests.cli.conftest import Console

CONTENT: dict[str, Any] = {
    "id": "drawn", "title": "Drawn", "year": 2026, "kind": "reid", "policy": "direct",
    "licence": "none", "citation": [], "notice": "", "variants_join": True,
    "generated": {"identities": {"train": 1, "test": 2}},
    "variants": {
        "few": {"generated": {"identities": {"train": 9}}, "strict": True},
        "strict": {"strict": True},
        "many": {"generated": {"identities": {"train": 99}}},
        "other": {"generated": {"seed": 1}},
    },
}  # fmt: skip


def test_joined_variants_are_all_of_them_under_one_name():
    both = [parse_manifest(CONTENT, typed) for typed in ("few+other+strict", "other+few+strict")]
    assert both[0] == both[1] and both[0].dataset == "drawn:few+strict+other"
    assert both[0].generated == {"identities": {"train": 9, "test": 2}, "seed": 1}
    assert both[0].strict and parse_manifest(CONTENT, "few+few").dataset == "drawn:few"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (
            "few+many",
            "'few' and 'many' of drawn together, which differ in generated.identities.train",
        ),
        ("few+othr", "found variant 'othr' of drawn .did you mean 'other'"),
        ("few+", "found variant '' of drawn"),
    ],
)
def test_variants_that_do_not_join(typed: str, words: str):
    with pytest.raises(ReidpipeError, match=words) as caught:
        parse_manifest(CONTENT, typed)
    assert "\n" not in str(caught.value)


def test_where_a_manifest_does_not_say_so_none_join():
    with pytest.raises(ReidpipeError, match="found variant 'v1.v2' of msmt17"):
        load_manifest("msmt17:v1+v2")


def test_a_regime_has_a_sibling_in_another_world(tmp_path):
    workspace = Workspace(tmp_path)
    here, there = (
        dict(index_step(workspace, f"mannequins:{name}").params)
        for name in ("people-16", "other-world+people-16")
    )
    assert there == {**here, "dataset": "mannequins:people-16+other-world", "seed": 1}
    assert load_manifest("mannequins:people-16+other-world").validation is None


def test_what_a_variant_is_drawn_with_is_told(tmp_path):
    text = Console(tmp_path)("datasets", "mannequins:images-2+other-world").stdout
    assert "drawn with: train_images 2, seed 1" in text
    assert "variants join: mannequins:images-2+other-world is both" in text
    assert "mannequins:occluded-two-thirds" in text
