"""``precision: auto`` says what it chose."""

from __future__ import annotations

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
