"""Parameters by their dotted path, by hand."""

from __future__ import annotations

from pipeline.artifacts.steps import leaves


def test_leaves_by_hand():
    stage = {"name": "image", "lr": 0.1, "losses": [{"loss": "a"}, {"loss": "b"}], "hooks": []}
    told = dict(leaves({"size": [128, 64], "model": {"text": {}}, "stages": [stage]}))
    assert told == {
        "size": [128, 64],
        "model.text": None,
        "stages.image.name": "image",
        "stages.image.lr": 0.1,
        "stages.image.losses.0.loss": "a",
        "stages.image.losses.1.loss": "b",
        "stages.image.hooks": None,
    }
