"""Files where folders belong, folders where files do, and files no disk can hold."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TRAIN, Console


@pytest.mark.parametrize("command", ["embed", "search", "export"])
@pytest.mark.parametrize("inside", [False, True], ids=["file", "below a file"])
def test_out_is_checked_before_the_work(
    trained: Console, people: Path, tmp_path: Path, monkeypatch, command: str, inside: bool
):
    images = people / "images"
    photo = next(path for path in images.rglob("*") if path.is_file())
    taken = tmp_path / "taken.safetensors"
    taken.write_text("x")
    if command != "embed" and not inside:
        taken.unlink()
        taken.mkdir()
    out = taken / "deep" / "a.safetensors" if inside else taken
    words: dict[str, tuple[str | Path, ...]] = {
        "embed": (images,),
        "search": (photo, images),
        "export": ("--format", "safetensors"),
    }
    monkeypatch.setattr("pipeline.artifacts.graph.run", no_work)
    line = trained.mistake(command, "baseline-tiny", *words[command], "--out", out)
    assert f"found the folder {taken}" in line or f"no way to make the folder {taken}" in line
    assert "--out" in line.rpartition("type ")[2]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc here")
def test_out_where_nothing_can_be_made(trained: Console, people: Path):
    line = trained.mistake("embed", "baseline-tiny", people / "images", "--out", "/proc/none")
    assert "no way to make the folder /proc/none" in line


def no_work(*_: Any, **__: Any) -> None:
    raise AssertionError("the work was begun")


def test_files_in_the_workspace_where_folders_belong(trained: Console, tmp_path: Path):
    console = Console(tmp_path / "other")
    console.root.mkdir()
    (console.root / "artifacts").write_text("x")
    line = console.mistake("prepare", notes=1)
    assert f"found {console.root / 'artifacts'}" in line and "in the way" in line
    (trained.root / "runs").rename(trained.root / "gone")
    (trained.root / "runs").write_text("x")
    trained("status")
    line = trained.mistake("train", "baseline-tiny", "--dataset", "folder", *TRAIN)
    assert f"found {trained.root / 'runs'}" in line and "another --out or --workspace" in line


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EEXIST, "in the way"),
        (errno.EISDIR, "in the way"),
        (errno.ENOTDIR, "in the way"),
        (errno.EFBIG, "too large for its disk"),
    ],
)
def test_what_the_machine_refuses_is_one_line(trained: Console, monkeypatch, number, told):
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "/disk/pixels.npy")

    monkeypatch.setattr("pipeline.images.work.os.posix_fallocate", refused)
    line = trained.mistake("prepare", "folder", "--size", "48x24", notes=2)
    assert "found /disk/pixels.npy" in line and told in line
