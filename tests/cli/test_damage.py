"""Files of the workspace that a full disk or a careless hand has damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.artifacts.store import MARK, Artifact, Workspace
from tests.cli.conftest import Console

DAMAGED = ["", "xx", "{}", "[1]", "\udcff"]


def artifact(console: Console, step: str) -> Artifact:
    (found,) = Workspace(console.root).find(step)
    return found


def write(path: Path, text: str) -> None:
    path.write_bytes(text.encode(errors="surrogateescape"))


@pytest.mark.parametrize("content", DAMAGED)
def test_an_artifact_whose_mark_is_damaged_is_told_and_made_again(trained: Console, content: str):
    target = artifact(trained, "evaluation")
    write(target.folder / MARK, content)
    assert "1 unfinished" in trained("status").stdout
    states = {row["step"]: row["state"] for row in trained.json("cache", "ls")}
    assert states["evaluation"] == "unfinished" and states["model"] == "complete"
    found = trained.json("cache", "verify", code=1)
    assert found["damaged"] == [{"step": "evaluation", "key": target.key, "file": MARK}]
    assert target.folder.exists()
    assert "made 1 artifacts" in trained("eval").stdout
    assert trained.json("cache", "verify")["damaged"] == []


def test_repair_takes_an_artifact_with_a_damaged_mark_away(trained: Console):
    target = artifact(trained, "model")  # resumable, but what its files were nobody knows
    write(target.folder / MARK, "xx")
    assert "1 damaged files, taken away" in trained("cache", "verify", "--repair", code=1).stdout
    assert not target.folder.exists()
    trained("cache", "verify")
    trained("prepare", "folder", "--size", "32x16", "--filter", "bilinear")


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_run_is_left_out_with_a_warning(trained: Console, content: str, caplog):
    second = trained.root / "runs" / "other" / "run.json"
    second.parent.mkdir()
    write(second, content)
    assert len(trained.json("status")["runs"]) == 1
    assert [str(second) in record.getMessage() for record in caplog.records] == [True]
    assert "nothing to do" in trained("eval").stdout


def test_a_damaged_result_is_one_line(trained: Console):
    metrics = artifact(trained, "evaluation").folder / "metrics.json"
    metrics.write_text(metrics.read_text() + "}")
    line = trained.mistake("eval")
    assert str(metrics) in line and "reidpipe cache verify --repair" in line
    trained("cache", "verify", "--repair", code=1)
    assert "made 1 artifacts" in trained("eval").stdout


def test_a_damaged_model_json_is_trained_again(trained: Console):
    target = artifact(trained, "model")
    for name in (MARK, "model.json"):
        write(target.folder / name, "x")
    trained("cache", "rm", "evaluation")
    assert "made 2 artifacts" in trained("eval", "--device", "cpu").stdout
    assert json.loads((target.folder / "model.json").read_text())["recipe"]


@pytest.mark.parametrize("content", ["", "xx"])
def test_a_damaged_registration_is_made_anew(trained: Console, people: Path, content: str, caplog):
    (trained.root / "datasets" / "folder.json").write_text(content)
    words = ("prepare", "folder", "--size", "32x16", "--filter", "bilinear")
    assert "found no images of yours" in trained.mistake(*words)
    assert "taken as not registered" in caplog.text
    assert "nothing to do" in trained(*words, "--root", people).stdout
    assert "nothing to do" in trained(*words).stdout
