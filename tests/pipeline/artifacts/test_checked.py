"""What is read of an artifact is what was written there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pipeline.artifacts import checked as module
from pipeline.artifacts.atomic import sha256_file, write_json
from pipeline.artifacts.checked import check_files, checked, read_json
from pipeline.artifacts.mark import MARK, described
from pipeline.terminal.errors import DamagedFile
from tests.replaced import flip

FILES = {"a.bin": b"abc" * 10, "b.json": b"[1, 2]", "epochs/0004/a.bin": b"deep"}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifacts" / "model" / "0123"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    mark = {"params": {}, "inputs": {}, "summary": {}, "started": "", "seconds": 1}
    write_json(folder / MARK, {**mark, "files": {n: described(folder / n) for n in FILES}})
    return folder


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Names of the files that are hashed, in order."""
    found: list[str] = []

    def counted(path: Path) -> str:
        found.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(module.atomic, "sha256_file", counted)
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_byte_that_changed_is_told_by_the_files_name(artifact: Path, name: str):
    path = artifact / name
    assert checked(path) == path
    flip(path)
    with pytest.raises(DamagedFile, match="cache verify --repair") as told:
        checked(path)
    assert str(path) in str(told.value)


def test_a_longer_file_and_one_that_is_gone_are_told(artifact: Path):
    (artifact / "a.bin").write_bytes(b"longer" * 10)
    with pytest.raises(DamagedFile, match="60 bytes"):
        checked(artifact / "a.bin")
    (artifact / "a.bin").unlink()
    with pytest.raises(DamagedFile, match="no file"):
        checked(artifact / "a.bin")


def test_a_file_is_hashed_once_per_process(artifact: Path, reads: list[str]):
    for _ in range(3):
        checked(artifact / "a.bin")
        assert read_json(artifact / "b.json") == [1, 2]
    assert reads == ["a.bin", "b.json"]


def test_what_no_mark_tells_of_passes(artifact: Path, tmp_path: Path):
    (artifact / "step.log").write_text("later")
    (tmp_path / "x.json").write_text("[]")
    assert read_json(tmp_path / "x.json") == [] and checked(artifact / "step.log").is_file()


def test_an_artifact_is_checked_without_its_folders_unless_strictly(artifact: Path):
    flip(artifact / "epochs/0004/a.bin")
    check_files(artifact)
    with pytest.raises(DamagedFile, match="0004"):
        check_files(artifact, strict=True)


def test_large_files_are_hashed_once_per_change(artifact: Path, reads: list[str], monkeypatch):
    monkeypatch.setattr(module, "NOTED", 4)
    monkeypatch.setattr(module, "SETTLED", -1.0)
    path = artifact / "a.bin"

    def new_process() -> None:
        module._digest.cache_clear()

    for _ in range(3):
        new_process()
        checked(path)
    assert reads == ["a.bin"]
    new_process()
    checked(path, strict=True)  # believes no note
    assert len(reads) == 2
    flip(path)
    new_process()
    with pytest.raises(DamagedFile):
        checked(path)
    assert json.loads((artifact.parents[2] / "checked/model/0123.json").read_text()).keys() == {
        "a.bin"
    }


def test_a_file_that_changed_just_now_is_not_noted(artifact: Path, monkeypatch):
    monkeypatch.setattr(module, "NOTED", 4)
    os.utime(artifact / "a.bin")
    checked(artifact / "a.bin")
    assert not (artifact.parents[2] / "checked").exists()
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 60)
    module._digest.cache_clear()
    checked(artifact / "a.bin")
    assert (artifact.parents[2] / "checked").is_dir()


@pytest.mark.parametrize("said", ["", "[]", '{"a.bin": 5}', '{"a.bin": [1, 2]}', "{"])
def test_a_damaged_note_is_none(artifact: Path, monkeypatch, said: str):
    monkeypatch.setattr(module, "NOTED", 4)
    note = artifact.parents[2] / "checked/model/0123.json"
    note.parent.mkdir(parents=True)
    note.write_text(said)
    checked(artifact / "a.bin")
    flip(artifact / "a.bin")
    with pytest.raises(DamagedFile):
        checked(artifact / "a.bin")


def test_weights_beside_their_description_are_those_it_tells_of(tmp_path: Path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"weights")
    write_json(path.with_suffix(".json"), {"weights_sha256": sha256_file(path)})
    assert checked(path) == path
    flip(path)
    with pytest.raises(DamagedFile, match=r"mine\.json beside it"):
        checked(path)
