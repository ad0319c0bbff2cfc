"""``run``, ``eval`` and ``recipes`` say what a recipe expects beside what was measured."""

from __future__ import annotations

import pytest
import yaml

from tests.cli.conftest import TRAIN, Console

RUN = ("run", "baseline-tiny", *TRAIN, "--device", "cpu")


@pytest.mark.slow
def test_run_and_eval_show_measured_beside_expected(console: Console, few_people: None):
    result = console(*RUN, "--seed", "0-1").stdout
    (first,) = [line for line in result.splitlines() if "published:" in line]
    start = "baseline-tiny on mannequins: published: mAP 67.8 (docs/results.md); measured "
    assert first.startswith(start)
    spread, differing = result.splitlines()[result.splitlines().index(first) + 1 :][:2]
    assert spread.startswith("  in standard deviations of these 2 seeds: mAP ")
    assert differing.startswith("  conditions that differ: input.size [32, 16] (there [128, 64]); ")
    assert "stages.image.epochs 1 (there 18)" in differing

    answer = console.json(*RUN, "--seed", "0-1")
    (row,) = answer["published"]
    told = row["measures"]["mAP"]
    assert told["expected"] == 0.678 and told["measured"] == answer["rows"][0]["mAP"]["mean"]
    assert told["std"] == answer["rows"][0]["mAP"]["std"]
    assert told["deviations"] == (told["measured"] - 0.678) / told["std"]

    one = console.json("eval")
    (row,) = one["published"]
    assert row["measures"]["mAP"]["measured"] == one["mAP"]
    assert row["conditions"] == answer["published"][0]["conditions"]


def test_eval_is_silent_where_nothing_is_expected(trained: Console):
    assert "published" not in trained("eval").stdout
    assert trained.json("eval")["published"] == []


def test_recipes_shows_all_that_is_expected(console: Console):
    shown = yaml.safe_load(console("recipes", "resnet50-triplet").stdout)
    market, msmt17 = shown["expected"]
    assert list(market)[:4] == ["dataset", "protocol", "mAP", "rank1"]
    assert msmt17["train"] == "msmt17:v1-strict" and "Simple-ReID at 14a48b4" in msmt17["source"]
    assert len(console.json("recipes", "coop")["expected"]) == 6
