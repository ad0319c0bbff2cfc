"""The trainings that are called as ``python -m``: mistakes in one line, torchrun's processes."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from parsing_models.training import published as published_training
from parsing_models.training import small as training
from reid_train.weights import pretraining
from tests.cli.conftest import as_two_processes


def mistake(command: click.Command, *words: str) -> str:
    result = CliRunner().invoke(command, [*words], prog_name="python -m it")
    assert isinstance(result.exception, SystemExit) and result.exit_code == 2, result.exception
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and not result.stdout
    return line


@pytest.mark.parametrize("module", [published_training, training, pretraining])
def test_mistakes_are_one_line(module, tmp_path: Path):
    line = mistake(module.main, "--outt", str(tmp_path))
    assert "--outt" in line and line.endswith("type python -m it -h")


@pytest.mark.parametrize("module", [training, pretraining])
def test_a_device_that_there_is_not(module, tmp_path: Path):
    line = mistake(module.main, "--out", str(tmp_path), "--device", "tpu")
    assert "found device 'tpu'" in line and not list(tmp_path.iterdir())


def test_a_dataset_that_there_is_not(tmp_path: Path):
    words = ("--out", str(tmp_path / "out"), "--workspace", str(tmp_path))
    line = mistake(published_training.main, *words, "--dataset", "nonsense")
    assert "dataset 'nonsense'" in line and "type reidpipe datasets" in line


def test_the_workspace_is_the_environment_s(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("REIDPIPE_WORKSPACE", str(tmp_path / "file"))
    (tmp_path / "file").write_text("x")
    line = mistake(published_training.main, "--out", str(tmp_path / "out"))
    assert str(tmp_path / "file") in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "words", "name"),
    [
        ("parsing_models.training.small", "--images 8 --epochs 1 1 1 1 --batch 4", "schp-tiny"),
        (
            "reid_train.weights.pretraining",
            "--people 8 --images 2 --epochs 1 --batch 4",
            "clip-tiny",
        ),
    ],
    ids=["parser", "clip"],
)
def test_two_processes_write_and_tell_once(tmp_path: Path, module: str, words: str, name: str):
    printed = as_two_processes(module, "--out", str(tmp_path), *words.split(), "--scored", "2")
    assert len(printed.splitlines()) == 1, printed
    about = json.loads((tmp_path / f"{name}.json").read_text())
    assert about["runtime"]["processes"] == 2
