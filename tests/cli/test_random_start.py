"""A training that begins with less than its paper's is another experiment, and says so."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Console

SMALL = (
    *("--set", "input.size=[32,16]", "--set", "stages.0.data.ids=2"),
    *("--set", "stages.0.data.images_per_id=2", "--epochs", "1"),
)


@pytest.mark.slow
def test_random_weights_are_told_before_training_and_by_the_name(console: Console):
    result = console("train", "distill-mobilenet-none", "--pretrained", "none", *SMALL)
    told = [line for line in result.stderr.splitlines() if "random ones" in line]
    assert len(told) == 1 and "begins with the weights of imagenet" in told[0]
    assert result.stderr.index(told[0]) < result.stderr.index("making model")
    run = "distill-mobilenet-none-from-random-mannequins-s0"
    assert run in result.stdout
    metrics = console.json("eval")
    assert metrics["recipe"] == "distill-mobilenet-none-from-random"
    again = console("train", "distill-mobilenet-none", "--pretrained", "none", *SMALL)
    assert "nothing to do" in again.stdout and "random ones" not in again.stderr


def test_a_recipe_of_random_weights_keeps_its_name(trained: Console):
    assert not any("from-random" in run["run"] for run in trained.json("status")["runs"])


@pytest.mark.slow
def test_weights_that_cannot_be_had_are_one_line(console: Console, monkeypatch):
    monkeypatch.setattr("pipeline.datasets.fetch._ATTEMPTS", 0)
    result = console("train", "distill-mobilenet-none", *SMALL, code=2)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("making ")]
    assert len(lines) == 1 and len(lines[0]) <= 500
    assert "found no mobilenet" in lines[0] and lines[0].endswith("--pretrained none")
