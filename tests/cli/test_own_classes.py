"""``reidpipe classify`` on classes of one's own, and options that act, or are told."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.atomic import read_json
from reid_train.classify.speed import measure
from tests.cli.conftest import Console
from tests.trees import lines

COLOURS = {"red thing": (220, 30, 30), "green_thing": (30, 200, 30), "blå ting": (30, 30, 220)}
CPU = ("--device", "cpu")
ZERO = ("classify", "zero-shot-tiny", *CPU, "--dataset")


def paint(path: Path, colour: tuple[int, ...], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 20, (32, 32, 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """Three classes of four pictures to train on and two to test on, and a table of them."""
    root, rows = tmp_path / "things", ["path,split,class,classname"]
    for label, (name, colour) in enumerate(COLOURS.items()):
        for number in range(6):
            split = "train" if number < 4 else "test"
            path = f"{split}/{name}/{number}.png"
            paint(root / path, colour, 10 * label + number)
            rows.append(f"{path},{split},{label},{name}")
    lines(root / "classes.csv", rows)
    return root


def names(console: Console) -> list[list[str]]:
    """Class names of each accuracy that was made."""
    return [
        [entry["name"] for entry in read_json(file)["per_class"]]
        for file in console.root.glob("artifacts/accuracy/*/accuracy.json")
    ]


def test_folders_and_tables_say_the_same(console: Console, things: Path):
    table = things / "classes.csv"
    console("prepare", "folder:mine", "--root", table)
    console("prepare", "classes", "--root", things)
    found = console.json(*ZERO, f"{things},{table},folder:mine,classes")
    assert [row["dataset"] for row in found["rows"]] == [
        str(things), str(table), "folder:mine", "classes",
    ]  # fmt: skip
    for row in found["rows"]:
        assert row["tests"]["accuracy"]["images"] == 6
        assert row["tests"]["accuracy"]["classes"] == 3
    values = [row["figures"]["accuracy"]["mean"] for row in found["rows"]]
    assert len(set(values)) == 1
    assert found["splits"][0] == f"split of {things}: your own, 12 images to train on, 6 to test on"
    # By the names of folders, and by the numbers of the table.
    assert {tuple(found) for found in names(console)} == {
        ("blå ting", "green_thing", "red thing"),
        ("red thing", "green_thing", "blå ting"),
    }


def test_no_test_images_are_held_out_and_that_is_said(console: Console, things: Path):
    found = console.json(*ZERO, things / "train")
    assert found["rows"][0]["tests"]["accuracy"]["images"] == 3
    assert "3 of 12, 20% of each class, are held out with seed 0" in found["splits"][1]
    learner = ("classify", "coop-tiny", "--dataset", things / "train", "--shots", "2", *CPU)
    learnt = console.json(*learner, "--set", "training.epochs=1")
    assert learnt["rows"][0]["tests"] == found["rows"][0]["tests"]


def test_a_wording_acts_on_classes(console: Console, things: Path):
    plain = console.json(*ZERO, things)["rows"][0]["figures"]
    made = console.json(*ZERO, things, "--wording", "no word of a {}")["made"]
    assert made and len(names(console)) == 2
    assert ["no word of a blå ting", "no word of a green_thing", "no word of a red thing"] in names(
        console
    )
    assert console.json(*ZERO, things)["rows"][0]["figures"] == plain
    assert "expected one {}" in console.mistake(*ZERO, things, "--wording", "person")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--attribute", "hat"), ("found --attribute hat of", "generated people")),
        (("--split", "people"), ("found --split people of", "--dataset mannequins")),
        (("--set", "pretrained=clip-tiny", "--pretrained", "openai"), ("leave one out",)),
        (("--speed", "--split", "cross", "--target", "oxford_pets"), ("--target", "--speed")),
    ],
    ids=lambda words: words[0],
)
def test_options_that_cannot_act_are_refused(
    console: Console, things: Path, words: tuple[str, ...], parts: tuple[str, ...]
):
    line = console.mistake(*ZERO, things, *words)
    assert all(part in line for part in parts), line
    assert not list(console.root.glob("artifacts/*/*"))


def test_options_of_training_are_told_where_nothing_trains(
    console: Console, things: Path, monkeypatch: pytest.MonkeyPatch
):
    words = ("--shots", "3", "--seed", "1-2", "--set", "training.epochs=2", "--set", "n_ctx=2")
    result = console(*ZERO, things, *words)
    assert (
        "not used: --shots 3, --seed 1-2, --set training.epochs=2, --set n_ctx=2; zero-shot-tiny "
        "learns nothing" in result.stderr
    )
    made = console.json(*ZERO, things)["made"]
    assert made == []  # none of it is in a key
    assert "not used" not in console(*ZERO, things).stderr
    monkeypatch.setattr(measure, "__kwdefaults__", {"batches": (1,), "seconds": 0.0})
    both = console("classify", "zero-shot-tiny", "coop-tiny", "--speed", "--shots", "2", *CPU,
                   "--dataset", things, "--dataset", things / "classes.csv")  # fmt: skip
    assert "not used: --shots 2; --speed trains nothing" in both.stderr
    assert both.stdout.count(str(things / "classes.csv")) == 2  # every dataset is measured


def test_wrong_classes_are_told_before_any_feature(console: Console, things: Path, people: Path):
    paint(things / "train" / "Red_thing" / "0.png", (1, 2, 3), 0)
    line = console.mistake(*ZERO, things, notes=1)
    assert "both named 'Red_thing'" in line
    assert not list(console.root.glob("artifacts/class-features/*"))
    assert "found nothing at" in console.mistake(*ZERO, things / "gone")
    assert "oxford_pets" in console.mistake(*ZERO, "oxford_pet")
    console("prepare", "folder", "--root", people, "--size", "32x16")
    line = console.mistake(*ZERO, "folder")
    assert "found people and no classes" in line and f"--dataset {people}" in line


def test_only_test_images_train_no_learner(console: Console, things: Path):
    table = things / "test.csv"
    rows = (things / "classes.csv").read_text(encoding="utf-8").splitlines()
    lines(table, [rows[0], *(row for row in rows[1:] if ",test," in row)])
    assert console.json(*ZERO, table)["rows"][0]["tests"]["accuracy"]["images"] == 6
    line = console.mistake("classify", "coop-tiny", "--dataset", table, *CPU)
    assert "found no training image" in line and "zero-shot" in line


def test_options_that_no_recipe_reads_are_refused(console: Console, few_people: None):
    line = console.mistake("train", "baseline-tiny", "--parsing", "schp-tiny", *CPU)
    assert "found --parsing for baseline-tiny, which reads no label maps" in line
    assert "leave one out" in console.mistake(
        "train", "baseline-tiny", "--pretrained", "none", "--set", "model.pretrained=openai"
    )


def test_classes_without_a_test_image_are_one_line(console: Console, things: Path):
    shutil.rmtree(things / "test")
    for path in things.glob("train/*/[1-9].png"):  # one is left of each: too few to hold any out
        path.unlink()
    line = console(*ZERO, things, code=2).stderr.splitlines()[-1]
    assert "no image to test on" in line and "FOLDER/test/<class>/<image>" in line


@pytest.mark.parametrize(
    ("recipe", "split", "half", "told"),
    [
        ("coop-tiny", "train", "base", "found no training image of the base half of the classes"),
        ("zero-shot-tiny", "test", "base", "found no image to test on of the base half of the"),
        ("coop-tiny", "test", "new", "found no image to test on of the new half of the classes"),
    ],
)
def test_a_half_without_images_is_told_before_any_feature(
    console: Console, things: Path, recipe: str, split: str, half: str, told: str
):
    """The halves of three classes in alphabetical order are the first two and the last."""
    names = {"base": ("blå ting", "green_thing"), "new": ("red thing",)}[half]
    for name in names:
        shutil.rmtree(things / split / name)
    (things / "classes.csv").unlink()
    words = ("classify", recipe, "--dataset", things, "--split", "base-new", "--shots", "2", *CPU)
    line = console(*words, code=2).stderr.splitlines()[-1]
    assert told in line and f"type --split all, or add images of {', '.join(names)}" in line
    assert {path.parent.name for path in console.root.glob("artifacts/*/*")} == {"index"}
