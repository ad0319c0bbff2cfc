"""``cache rm`` and ``cache verify --repair`` as typed: what is meant, left and made again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.artifacts.store import Workspace
from tests.cli.conftest import TRAIN, Console

TRAINED = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "heads.safetensors", "log.jsonl"])
def test_a_repaired_model_is_trained_again_with_all_its_files(trained: Console, name: str):
    folder = Path(trained.json(*TRAINED)["model"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / name).write_bytes(before[name][:100])
    assert (
        f"damaged: model {folder.name} {name}"
        in trained("cache", "verify", "--repair", code=1).stdout
    )
    assert not folder.exists()
    assert len(trained.json(*TRAINED)["made"]) == 1
    assert {path.name for path in folder.iterdir()} == before.keys()
    for weights in ("model.safetensors", "heads.safetensors"):
        assert (folder / weights).read_bytes() == before[weights]
    assert trained.json("cache", "verify")["damaged"] == []


def begun(console: Console, *places: str) -> list[Path]:
    """Unfinished artifacts, ``STEP/KEY`` each."""
    folders = [console.root / "artifacts" / place for place in places]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def test_the_digits_of_several_keys_remove_none(console: Console):
    first, second, other = begun(
        console, "images/abcd0000000000000000", "model/abcd1111111111111111", "model/" + "0" * 20
    )
    line = console.mistake("cache", "rm", "abcd")
    assert "found 2 artifacts for 'abcd'" in line and "expected one" in line
    assert "images abcd0000000000000000, model abcd1111111111111111" in line
    assert first.exists() and second.exists()
    assert "expected a step's name or at least 4 digits" in console.mistake("cache", "rm", "abc")
    assert console.json("cache", "rm", "abcd0") == [{"step": "images", "key": first.name}]
    assert not first.exists() and second.exists()
    # Now they are one's alone; and a step's name still means all of that step.
    begun(console, "model/abce2222222222222222")
    removed = console.json("cache", "rm", "model")
    assert [row["key"] for row in removed] == sorted([other.name, second.name, "abce" + "2" * 16])


def test_of_many_matches_some_are_named(console: Console):
    begun(console, *(f"model/abcd{number:016d}" for number in range(9)))
    line = console.mistake("cache", "rm", "abcd")
    assert "found 9 artifacts" in line and ", and 3 more)" in line
    assert "abcd0000000000000005" in line and "abcd0000000000000006" not in line


@pytest.mark.parametrize("reference", ["key", "step"])
def test_what_is_being_made_is_left_at_once(trained: Console, reference: str):
    """A removal that waited for a training would delete the model it ends with."""
    workspace = Workspace(trained.root)
    (target,) = workspace.find("model")
    (target.folder / "artifact.json").rename(target.folder / "apart")
    done = threading.Event()

    def work() -> None:
        with workspace._lock("model", target.key):
            working.set()
            done.wait(60)
            (target.folder / "apart").rename(target.folder / "artifact.json")

    working = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    try:
        working.wait(60)
        told = trained("cache", "rm", target.key if reference == "key" else "model").stdout
        assert worker.is_alive()
    finally:
        done.set()
        worker.join()
    assert told == f"left model {target.key}: another process is at work on it\n"
    assert target.complete
    assert "removed model" in trained("cache", "rm", target.key).stdout


def test_what_a_killed_removal_left_goes_with_the_next(console: Console):
    (left,) = begun(console, "model/." + "a" * 20 + ".removed")
    (left / "model.json").write_text("{}")
    assert console.json("cache", "ls") == []
    assert console.json("cache", "rm", "unfinished") == []
    assert not left.exists()
