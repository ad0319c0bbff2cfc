"""Bytes that were exchanged under the same name, size and time are told and never used."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts import atomic
from pipeline.artifacts.store import Artifact, Workspace
from tests.cli.conftest import TRAIN, Console
from tests.replaced import flip

OTHER = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--seed", "1", "--device", "cpu")


def artifact(console: Console, step: str) -> Artifact:
    (found,) = Workspace(console.root).find(step)
    return found


def told(line: str, path: Path) -> None:
    assert f"other bytes at {path}" in line and "reidpipe cache verify --repair" in line


@pytest.fixture
def own(people: Path, tmp_path: Path) -> tuple[Console, Path]:
    """A workspace with an index of a copy of ``people`` that may be changed, and one image."""
    root = tmp_path / "own"
    shutil.copytree(people, root)
    console = Console(tmp_path / "workspace")
    console("prepare", "folder", "--root", root, "--size", "32x16")
    return console, sorted(root.rglob("gallery/*.jpg"))[-1]


@pytest.mark.parametrize(
    ("step", "name", "words"),
    [
        ("model", "model.safetensors", ("eval", "--exclude", "none", "--device", "cpu")),
        ("model", "model.safetensors", ("embed", "baseline-tiny", "{people}")),
        ("model", "model.safetensors", ("export", "baseline-tiny", "--format", "safetensors")),
        ("model", "model.json", ("export", "baseline-tiny", "--format", "safetensors")),
        ("model", "heads.safetensors", ("train", "--continue", "baseline-tiny")),
        ("model", "log.jsonl", ("report", "baseline-tiny")),
        ("index", "index.csv", OTHER),
        ("images", "pixels.npy", OTHER),
        ("images", "keys.json", OTHER),
        ("evaluation", "metrics.json", ("eval",)),
        ("evaluation", "ranking.npz", ("report", "baseline-tiny")),
        ("evaluation", "statistics.json", ("report", "baseline-tiny")),
    ],
)
def test_a_flipped_byte_is_told_before_it_is_used(
    trained: Console, people: Path, step: str, name: str, words: tuple[str, ...]
):
    path = artifact(trained, step).folder / name
    # Inside a number or a name, where the file stays what it was by its form.
    flip(path, path.read_bytes().rfind(b"1") if path.suffix in (".json", ".csv", ".jsonl") else -9)
    line = trained(*(word.format(people=people) for word in words), code=2).stderr
    told(line.splitlines()[-1], path)
    assert trained.json("cache", "verify", code=1)["damaged"] == [
        {"step": step, "key": path.parent.name, "file": name}
    ]


def test_what_was_taken_away_is_made_again(trained: Console):
    path = artifact(trained, "images").folder / "pixels.npy"
    before = path.read_bytes()
    flip(path)
    trained(*OTHER, code=2)
    trained("cache", "verify", "--repair", code=1)
    trained(*OTHER)
    assert path.read_bytes() == before


def test_label_maps_are_read_as_they_were_written(trained: Console):
    trained("parse", "folder", "--device", "cpu")
    (path,) = artifact(trained, "maps").folder.glob("*.h5")
    # Keys, notes and confidence have no checksum of their own.
    flip(path, path.read_bytes().find(b"images/"))
    words = ("parse", "folder", "--device", "cpu", "--preview")
    told(trained(*words, code=2).stderr.splitlines()[-1], path)


def test_large_pixels_are_read_in_full_once(trained: Console, monkeypatch):
    from pipeline.artifacts import checked as module

    monkeypatch.setattr(module, "NOTED", 1 << 10)
    monkeypatch.setattr(module, "SETTLED", -1.0)
    target = artifact(trained, "images")
    path = target.folder / "pixels.npy"
    module._digest.cache_clear()
    trained(*OTHER)
    note = trained.root / "checked" / "images" / f"{target.key}.json"
    assert "pixels.npy" in note.read_text()
    module._digest.cache_clear()
    flip(path)
    told(trained(*OTHER, "--seed", "2", code=2).stderr.splitlines()[-1], path)
    trained("cache", "rm", "images")
    assert not note.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("prepare", "folder", "--size", "48x24"),
        ("embed", "baseline-tiny", "folder"),
        ("search", "baseline-tiny", "folder", "folder"),
        ("--strict", "prepare", "folder", "--size", "32x16"),
    ],
)
def test_an_image_that_was_replaced_is_never_decoded(
    own: tuple[Console, Path], session_console: Console, words: tuple[str, ...]
):
    console, image = own
    for place in ("runs", "artifacts/model"):
        shutil.copytree(session_console.root / place, console.root / place, dirs_exist_ok=True)
    flip(image, -20)
    line = console(*words, code=2).stderr.splitlines()[-1]
    assert f"other bytes in {image}" in line and f"touch {image}" in line


def test_verify_finds_images_that_were_replaced(own: tuple[Console, Path]):
    console, image = own
    assert console.json("cache", "verify")["damaged"] == []
    flip(image, -20)
    (row,) = console.json("cache", "verify", code=1)["damaged"]
    assert (row["step"], row["file"]) == ("index", str(image))
    assert console.json("cache", "verify", "--no-images")["damaged"] == []
    before = image.read_bytes()
    console("cache", "verify", "--repair", code=1)  # not ours to take away
    assert image.read_bytes() == before and artifact(console, "index").complete
    image.touch()  # now it changed openly: that index is of the past
    said = console("cache", "verify").stdout
    assert "not compared" in said
    console("prepare", "folder", "--size", "32x16")


def test_strict_looks_at_what_is_reused_and_is_in_no_key(trained: Console, people: Path):
    assert "nothing to do" in trained("--strict", *OTHER[:-4], "--device", "cpu").stdout
    path = artifact(trained, "evaluation").folder / "features.npy"
    flip(path)
    trained("eval")  # which reads the figures alone
    told(trained("--strict", "eval", code=2).stderr.splitlines()[-1], path)


def test_strict_believes_no_note(trained: Console, monkeypatch):
    from pipeline.artifacts import checked as module

    path = artifact(trained, "images").folder / "pixels.npy"
    pixels = np.load(path)
    assert pixels.dtype == np.uint8
    monkeypatch.setattr(module, "NOTED", 1 << 10)
    flip(path)
    found = module.Seen.of(path)
    recorded = module._recorded(path.parent, module.Seen.of(path.parent / "artifact.json"))
    # A disk that returns other bits: by its times nothing happened.
    note = module.notes_of(path.parent)
    assert note is not None
    atomic.write_json(note, {path.name: [*found, recorded[path.name]["sha256"]]})
    module._digest.cache_clear()
    trained(*OTHER)
    told(trained("--strict", *OTHER, "--seed", "2", code=2).stderr.splitlines()[-1], path)
