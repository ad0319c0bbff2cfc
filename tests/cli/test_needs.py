"""What a dataset lacks is told once its index is there: nothing is packed or parsed before."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import TRAIN, Console


def tree(root: Path, **splits: dict[str, int]) -> Path:
    """split -> person -> images; the split ``_`` has no folder of its own."""
    for split, people in splits.items():
        for person, count in people.items():
            for number in range(count):
                place = root / person if split == "_" else root / split / person
                place.mkdir(parents=True, exist_ok=True)
                colour = (40 * number, len(person + split) * 9, 17 * ord(person[0]) % 256)
                Image.new("RGB", (8, 16), colour).save(place / f"{split}{number}.png")
    return root


def made(console: Console) -> set[str]:
    return {p.parent.name for p in console.root.glob("artifacts/*/*/artifact.json")}


def kinds(console: Console) -> set[str]:
    return {p.parent.parent.name for p in console.root.glob("artifacts/*/*/artifact.json")}


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ({"_": {"anna": 3}}, "found 1 person (3 images) to train on in folder; expected at"),
        (
            {"_": {"anna": 2, "ben": 1}},
            "found 2 people to train on; expected at least 16 for a batch of stage 'image' of "
            "baseline-tiny; type --set stages.image.data.ids=2",
        ),
        (
            {"query": {"anna": 1}, "gallery": {"anna": 1}},
            "found no training image in folder, which has gallery, query",
        ),
    ],
)
def test_too_few_to_train_on(console: Console, tmp_path: Path, splits: dict, told: str):
    root = tree(tmp_path / "own", **splits)
    console("prepare", "folder", "--root", root, "--size", "32x16", "--filter", "bilinear")
    before = made(console)
    for words in (("train",), ("run",)):
        line = console.mistake(*words, "baseline-tiny", "--dataset", "folder", "--device", "cpu")
        assert told in line
    assert made(console) == before


def test_images_without_identity(console: Console, tmp_path: Path):
    root = tmp_path / "own"
    root.mkdir()
    (root / "a.csv").write_text("path,split,pid\n1.png,train,\n2.png,train,\n")
    for number in (1, 2):
        Image.new("RGB", (8, 16), (90 * number, 0, 0)).save(root / f"{number}.png")
    console("prepare", "folder", "--root", root / "a.csv", "--size", "32x16")
    line = console.mistake("train", "baseline-tiny", "--dataset", "folder", "--device", "cpu")
    assert "found 2 of 2 training images of folder without identity (first 1.png)" in line


def test_batches_of_the_other_kind(console: Console, tmp_path: Path):
    root = tree(tmp_path / "own", _={"anna": 2, "ben": 2})
    console("prepare", "folder", "--root", root, "--size", "32x16")
    line = console.mistake("train", "slicenet1", "--dataset", "folder", "--device", "cpu")
    # Mirrored copies count: 8 images.
    assert "found 8 training images; expected at least" in line and ".data.batch=8" in line
    assert kinds(console) == {"index", "images"}


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ({}, "found no query and no gallery image in folder, which has train; expected both"),
        ({"gallery": {"eva": 2}}, "found no query image in folder, which has gallery, train"),
        (
            {"query": {"eva": 2}, "gallery": {"fay": 2}},
            "found no valid query among 2 of folder under protocol 'standard', exclude",
        ),
    ],
)
def test_nothing_to_evaluate_on(console: Console, tmp_path: Path, splits: dict, told: str):
    people = {"anna": 2, "ben": 2}
    root = tree(tmp_path / "own", train=people, **splits)
    words = ("--root", root, "--size", "32x16", "--filter", "bilinear", "--allow-mismatch")
    console("prepare", "folder", *words)
    training = ("baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    # Told by run before it trains, and by eval before it computes a feature.
    assert told in console.mistake("run", *training)
    assert "model" not in kinds(console)
    console("train", *training)
    assert told in console.mistake("eval")
    assert "evaluation" not in kinds(console)


def test_a_start_the_trunk_does_not_have(console: Console, tmp_path: Path):
    root = tree(tmp_path / "own", _={"anna": 2, "ben": 2})
    console("prepare", "folder", "--root", root, "--size", "48x24")
    words = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--pretrained", "imagenet")
    line = console.mistake(*words)
    assert "pretrained imagenet for trunk 'tiny'" in line and "type --pretrained none" in line
    assert len(made(console)) == 2
