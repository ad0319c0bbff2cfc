"""Parsers as ``train`` and ``run`` name them, devices as every command does."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Console


@pytest.mark.parametrize("recipe", ["pi-vl-tiny", "baseline-tiny"])
@pytest.mark.parametrize("command", ["train", "run"])
def test_a_parser_that_there_is_not(console: Console, command: str, recipe: str):
    line = console.mistake(command, recipe, "--parsing", "nope")
    assert "found parser 'nope'" in line and line.endswith("type --parsing schp-tiny")


@pytest.mark.parametrize("command", ["train", "run"])
def test_a_parser_without_weights(console: Console, monkeypatch, command: str):
    monkeypatch.delenv("REIDPIPE_WEIGHTS", raising=False)
    line = console.mistake(command, "pi-vl-tiny", "--parsing", "schp")
    assert "exp-schp-201908261155-lip.pth" in line and str(console.root / "weights") in line
    assert "--parsing schp-tiny works now" in line and "set REIDPIPE_WEIGHTS" in line
    assert "--weights" not in line and "--model" not in line


def test_a_device_that_there_is_not_though_all_is_cached(trained: Console):
    line = trained.mistake("eval", "--device", "tpu")
    assert "found device 'tpu'" in line and "type --device auto" in line
    trained("eval", "--device", "cpu")
