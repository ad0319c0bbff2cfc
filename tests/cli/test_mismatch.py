"""The word "error" goes with exit code 2, unless --allow-mismatch makes a warning of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Console
from tests.trees import market1501


def test_another_dataset_than_was_published(console: Console, tmp_path: Path):
    words = ("prepare", "market1501", "--root", market1501(tmp_path), "--size", "32x16")
    refused = console(*words, code=2)
    assert "error: train has 2 ids, expected 751" in refused.stdout
    line = refused.stderr.splitlines()[-1]
    assert line.startswith("Error: found errors in market1501: train has 2 ids, expected 751 (and ")
    assert line.endswith("type `reidpipe prepare market1501 --allow-mismatch` to use it as it is")
    # Told before the work that follows.
    assert not (console.root / "artifacts" / "images").exists()
    assert console(*words, "--json", code=2).stdout == ""

    text = console(*words, "--allow-mismatch").stdout
    assert "warning: train has 2 ids, expected 751 (allowed)" in text and "error" not in text
    found = console.json(*words, "--allow-mismatch")
    assert found["allowed_mismatch"] and "made" in found
    assert all(problem.startswith("warning:") for problem in found["problems"])
    # It stays where it was found, for whoever asks what was trained on.
    kept = json.loads((Path(found["index"]) / "artifact.json").read_text())["summary"]
    assert "error: train has 2 ids, expected 751" in kept["problems"]


def test_no_command_goes_on_with_another_dataset_than_was_published(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = market1501(tmp_path)
    monkeypatch.setenv("REIDPIPE_DATA", str(tmp_path))
    told = "Error: found errors in market1501: train has 2 ids, expected 751 (and "
    cure = "type `reidpipe prepare market1501 --allow-mismatch` to use it as it is"
    parse = ("parse", "market1501", "--device", "cpu")

    def refused(*words: str) -> str:
        return console(*words, code=2).stderr.splitlines()[-1]

    for _ in range(2):  # the index is made first, and found made then
        line = refused(*parse)
        assert line.startswith(told) and line.endswith(cure)
        assert not list((console.root / "artifacts" / "maps").glob("*/maps-*.h5"))
    assert console.mistake("train", "baseline-tiny", "--dataset", "market1501").startswith(told)
    prepare = ("prepare", "market1501", "--size", "32x16")
    assert refused(*prepare).startswith(told)
    assert refused(*parse).startswith(told)  # it is registered now
    console(*prepare, "--allow-mismatch")
    console(*parse)
    assert refused(*prepare).startswith(told)
    console(*parse)  # what was let through stays so
    next((root / "query").glob("*.jpg")).unlink()
    line = refused(*parse)  # and nothing else is
    assert line.startswith("Error: found errors in market1501: query has ")
    console("status")
    console("cache", "ls")


def test_own_images_that_cannot_be_evaluated(console: Console, tmp_path: Path):
    for split, pid in (("train", 1), ("query", 2), ("gallery", 3)):
        path = tmp_path / "own" / split / str(pid) / "a.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (16, 32), (40 * pid, 0, 0)).save(path)
    words = ("prepare", "folder", "--root", tmp_path / "own", "--size", "32x16")
    line = console(*words, code=2).stderr.splitlines()[-1]
    assert "1 of 1 queries have no gallery image of their identity" in line
    assert "warning: 1 of 1 queries" in console(*words, "--allow-mismatch").stdout
