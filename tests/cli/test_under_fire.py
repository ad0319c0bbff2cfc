"""What a workspace, a recipe or an image may say must not act outside its place."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from PIL import Image

from pipeline.artifacts.runs import Run, list_runs, record_runs
from pipeline.artifacts.store import MARK, Artifact, Workspace
from pipeline.images.originals import DamagedImage
from pipeline.images.pixels import decode
from tests.cli.conftest import Console


def artifact(console: Console, step: str) -> Artifact:
    (found,) = Workspace(console.root).find(step)
    return found


def tampered(target: Artifact, **changes) -> None:
    mark = target.folder / MARK
    mark.write_text(json.dumps({**json.loads(mark.read_text()), **changes}))


def test_unfinished_is_looked_at_again_under_the_lock(trained: Console):
    target = artifact(trained, "model")
    workspace = Workspace(trained.root)
    mark = (target.folder / MARK).read_bytes()
    (target.folder / MARK).unlink()
    with workspace._lock("model", target.key):  # a training at work
        assert "left model" in trained("cache", "rm", "unfinished").stdout
    assert target.folder.is_dir()
    (target.folder / MARK).write_bytes(mark)  # it ended in between
    assert not workspace.remove(target, unfinished=True) and target.complete
    (target.folder / MARK).unlink()
    assert "removed model" in trained("cache", "rm", "unfinished").stdout
    assert not target.folder.exists()


@pytest.mark.parametrize("name", ["../../../canary", "{absolute}", "a/../../canary", "", "."])
def test_a_mark_that_names_files_outside_is_damaged_and_deletes_none(trained: Console, name: str):
    target = artifact(trained, "model")
    canary = trained.root / "canary"
    canary.write_text("mine")
    name = name.format(absolute=canary)
    tampered(target, files={name: {"size": 1, "sha256": "0" * 64}})
    assert trained.json("cache", "verify", code=1)["damaged"][0]["file"] == MARK
    trained("cache", "verify", "--repair", code=1)
    assert canary.read_text() == "mine"


def test_a_linked_folder_inside_an_artifact_leads_nowhere(trained: Console, tmp_path: Path):
    target = artifact(trained, "model")
    (tmp_path / "canary").write_text("mine")
    (target.folder / "sub").symlink_to(tmp_path)
    tampered(target, files={"sub/canary": {"size": 1, "sha256": "0" * 64}})
    trained("cache", "verify", "--repair", code=1)
    assert (tmp_path / "canary").read_text() == "mine"
    assert not target.folder.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"params": [1]}, {"files": ["model.safetensors"]}, {"seconds": "long"}, {"started": 3},
        {"files": {"model.json": 5}}, {"summary": None}, {"inputs": "x"},
    ],
)  # fmt: skip
def test_a_mark_of_another_shape_is_damage(trained: Console, changes: dict):
    target = artifact(trained, "evaluation")
    tampered(target, **changes)
    states = {row["step"]: row["state"] for row in trained.json("cache", "ls")}
    assert states["evaluation"] == "unfinished"
    assert "1 unfinished" in trained("status").stdout
    assert "made 1 artifacts" in trained("eval").stdout


def test_a_linked_artifact_is_unlinked_and_its_target_stays(trained: Console, tmp_path: Path):
    target = artifact(trained, "evaluation")
    elsewhere = tmp_path / "elsewhere"
    target.folder.rename(elsewhere)
    target.folder.symlink_to(elsewhere)
    assert "removed evaluation" in trained("cache", "rm", "evaluation").stdout
    assert not target.folder.exists() and (elsewhere / MARK).is_file()


@pytest.mark.parametrize(
    "name", ["../../x", "/abs", "a/b", "..", ".", "a\\b", "", "x" * 300, "\x1b"]
)
def test_a_recipe_is_called_by_a_name_and_no_path(console: Console, name: str):
    line = console.mistake("train", "baseline-tiny", "--set", f"name={json.dumps(name)}")
    assert "name" in line and not (console.root / "runs").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": 5}, {"seed": "x"}, {"created": "now"}, {"created": float("nan")},
        {"dataset": None}, {"model": []}, {"model": {"name": "model", "version": 1}},
    ],
)  # fmt: skip
def test_a_run_of_another_shape_is_left_out(trained: Console, change: dict, caplog):
    (path,) = (trained.root / "runs").glob("*/run.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert trained.json("status")["runs"] == []
    assert str(path) in caplog.text


def test_a_runs_file_does_not_say_what_it_is_called(trained: Console):
    (path,) = (trained.root / "runs").glob("*/run.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "../../x"}))
    assert [run.name for run in list_runs(Workspace(trained.root))] == [path.parent.name]


def test_a_clock_that_was_put_back_leaves_the_newest_run_the_newest(trained: Console, monkeypatch):
    workspace = Workspace(trained.root)
    (first,) = list_runs(workspace)
    monkeypatch.setattr(time, "time", lambda: first.created - 1e6)
    (later,) = record_runs(workspace, [Run.of("later", "x", 0, first.model)])
    assert [run.name for run in list_runs(workspace)] == [first.name, later.name]


@pytest.mark.parametrize("suffix", [".jpg", ".eps", ".png"])
def test_postscript_is_no_photograph(tmp_path: Path, suffix: str, monkeypatch):
    path = tmp_path / f"0001_c1s1_000001_00{suffix}"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    from PIL import EpsImagePlugin

    def ghostscript(*_, **__) -> None:
        raise AssertionError("an interpreter was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    with pytest.raises(DamagedImage, match="no image"):
        decode(path)


@pytest.mark.parametrize(
    "format", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "TGA", "PCX"]
)
def test_photographs_of_all_usual_formats_are_read(tmp_path: Path, format: str):
    path = tmp_path / "x.jpg"
    Image.new("RGB", (6, 4), (200, 10, 10)).save(path, format)
    assert decode(path).shape == (4, 6, 3)


def test_names_reach_the_terminal_without_controls(console: Console, tmp_path: Path):
    root = tmp_path / "own"
    root.mkdir()
    for number in range(3):
        Image.new("RGB", (8, 16)).save(root / f"\x1b]0;owned\x07\x1b[2J{number}.jpg")
    result = console("prepare", "folder", "--root", root)
    assert "\x1b" not in result.output and "\x07" not in result.output
    assert max(map(len, result.output.splitlines())) <= 500


def test_files_of_an_artifact_are_read_by_those_who_read_its_folder(trained: Console):
    folder = artifact(trained, "model").folder
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert len(set(modes.values())) == 1, modes
