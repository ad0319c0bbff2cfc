"""Parsers as ``train`` and ``run`` name them, devices as every command does."""

from __future__ import annotations

from pathlib import Path

import pytest

from parsing_models.commands import parsers_of
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.commandline import Terminal
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


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("parse", "--option", "memory_mib=abc"), ("memory_mib='abc'", "a positive whole number")),
        (("parse", "--option", "input_size=3"), ("input_size=3", "[H,W]")),
        (("parse", "--option", "label_set=5"), ("label_set=5", "the name of a label set")),
        (("parse", "--option", "input_size=["), ("input_size='['", "[H,W]")),
        (("parse", "--option", "input_sise=3"), ("did you mean 'input_size'?",)),
        (("parse", "--option", "centre_person=7"), ("centre_person=7", "true or false")),
        (("parse", "--option", "label_map=a.json"), ("option 'label_map'", "'schp-tiny'")),
        (
            ("parse", "--option", "memory_mib=9", "--compare", "schp-tiny", "segformer-tiny"),
            ("with two parsers", "type --model schp-tiny --option memory_mib=9"),
        ),
        (
            ("train", "--parsing-option", "schp", "memory_mib=9"),
            ("did you mean 'schp-tiny'?", "type --parsing-option schp-tiny memory_mib=9"),
        ),
        (
            ("run", "pi-vl-tiny", "--parsing-option", "schp-tiny", "upscale=true"),
            ("option 'upscale' for parser 'schp-tiny'",),
        ),
    ],
    ids=lambda value: " ".join(value) if value[0].islower() else "",
)
def test_options_of_parsers(console: Console, words: tuple[str, ...], parts: tuple[str, ...]):
    line = console.mistake(*words)
    assert all(part in line for part in parts), line
    assert not list(console.root.glob("artifacts/*/*"))


def test_training_reads_the_central_body_where_it_is_asked_to(tmp_path: Path):
    terminal = Terminal(Workspace(tmp_path), as_json=True)
    index = Step("index", {"dataset": "a"})
    plain, centred = (
        parsers_of(terminal, ["schp-tiny"], settings=settings)(index, "schp-tiny")
        for settings in ((), [("schp-tiny", "centre_person=true")])
    )
    assert (plain.name, centred.name) == ("maps", "centred")
    # One parsing serves both, and its key is what it was.
    assert (
        centred.inputs["maps"].key == plain.key and "centre_person" not in plain.params["options"]
    )
