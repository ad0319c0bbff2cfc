"""``reid_train.load_model``: a run by its name, as commands take it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.artifacts.runs import list_runs
from pipeline.artifacts.store import Workspace
from pipeline.terminal.errors import ReidpipeError
from reid_train import load_model
from tests.cli.conftest import TRAIN, Console


def mistake(*words: str | Path, **options: Path) -> str:
    with pytest.raises(ReidpipeError) as caught:
        load_model(*words, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_is_found_by_name_beginning_and_key(trained: Console, monkeypatch, tmp_path: Path):
    (run,) = list_runs(Workspace(trained.root))
    images = torch.rand(2, 3, 32, 16)
    expected = load_model(trained.root / "runs" / run.name)(images)
    for name in (run.name, "baseline-tiny", run.model.key[:6]):
        assert torch.equal(load_model(name, workspace=trained.root)(images), expected)
    # By default where commands look: the variable, then the folder beside.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDPIPE_WORKSPACE", str(trained.root))
    assert torch.equal(load_model("baseline-tiny")(images), expected)
    monkeypatch.delenv("REIDPIPE_WORKSPACE")
    line = mistake("baseline-tiny")
    assert f"among the 0 of {tmp_path / 'reid-workspace'}" in line and "reidpipe train" in line
    trained.root.rename(tmp_path / "reid-workspace")
    assert torch.equal(load_model("baseline-tiny")(images), expected)


def test_a_path_wins_over_a_name(trained: Console, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    Path("baseline-tiny").mkdir()
    assert "found no model.json in baseline-tiny" in mistake(
        "baseline-tiny", workspace=trained.root
    )


def test_names_that_are_no_run(trained: Console):
    (run,) = list_runs(Workspace(trained.root))
    for name in ("baselin-tiny", f"{run.name[:-1]}x"):
        line = mistake(name, workspace=trained.root)
        assert (
            f"found no file '{name}', and no run of that name (did you mean '{run.name}'?)" in line
        )
        assert str(trained.root) in line and "workspace=FOLDER" in line
    assert f"the newest is '{run.name}'" in mistake("zzz", workspace=trained.root)
    train = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    trained(*train, "--seed", "1")
    assert "found 2 runs for 'baseline-tiny'" in mistake("baseline-tiny", workspace=trained.root)


def test_a_run_whose_model_was_removed_says_what_to_type(trained: Console):
    (run,) = list_runs(Workspace(trained.root))
    trained("cache", "rm", "model")
    for line in (
        mistake("baseline-tiny", workspace=trained.root),
        mistake(trained.root / "runs" / run.name),
    ):
        assert f"found no model of run '{run.name}'" in line and "it was removed" in line
        typed = line.partition("type reidpipe ")[2].partition(",")[0]
    trained(*typed.split())
    assert load_model("baseline-tiny", workspace=trained.root).input_size == (32, 16)
