"""What ``precision`` does to a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reid_train.engine import units
from tests.cli.conftest import TRAIN, Console


def test_auto_says_what_it_chose_before_training_and_in_the_run(trained: Console):
    words = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    result = trained(*words, "--set", "precision=auto")
    lines = result.stderr.splitlines()
    told = lines.index("precision fp32 (auto: a CPU computes in fp32)")
    assert told < next(number for number, line in enumerate(lines) if "epoch 1/1" in line)
    found = trained.json(*words, "--set", "precision=auto")
    assert (found["precision"], found["precision_asked"]) == ("fp32", "auto")
    assert "precision" not in trained(*words).stderr


def test_a_run_whose_steps_overflow_in_fp16_is_evaluated_as_any_other(
    trained: Console, monkeypatch: pytest.MonkeyPatch
):
    """As on a GPU: what its scaler skips leaves numbers in the run's record."""
    monkeypatch.setattr(units, "has_units", lambda _: True)  # emulated where there are none
    words = (
        "train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--set", "precision=fp16",
        "--set", "stages.0.losses.0.weight=300", "--device", "cpu",
    )  # fmt: skip
    found = trained.json(*words)
    written = json.loads((Path(found["model"]) / "model.json").read_text())
    assert found["precision"] == "fp16" and written["metrics"]["skipped"] > 0
    assert 0 <= trained.json("eval", "--device", "cpu")["mAP"] <= 1
