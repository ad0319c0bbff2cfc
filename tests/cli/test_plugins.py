"""Other people's code and data, with the real command, in a folder outside the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import TRAIN, Console
from tests.conftest import PROJECT

EXAMPLES = PROJECT / "docs" / "examples"
SETTINGS = ("input.size=[64,32]", "stages.0.epochs=2", "stages.0.data.ids=4")
SHORT = [part for setting in SETTINGS for part in ("--set", setting)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples of docs/ beside images: 8 people train, 4 others are searched, two a folder."""
    folder = tmp_path_factory.mktemp("outside")
    for name in ("mine.py", "my.yaml", "mine.yaml", "stripes.py"):
        shutil.copy(EXAMPLES / name, folder)
        assert len((folder / name).read_text().splitlines()) <= 40
    rng = np.random.default_rng(0)
    for split, pids, shots in (
        ("train", range(1, 9), ((1, 0), (1, 1), (2, 0), (2, 1))),
        ("query", range(9, 13), ((1, 0),)),
        ("gallery", range(9, 13), ((2, 0),)),
    ):
        for pid in pids:
            pair = folder / "data" / split / f"pair{(pid - 1) // 2}"
            pair.mkdir(parents=True, exist_ok=True)
            for camera, number in shots:
                colour = np.array([pid * 37, pid * 91, pid * 53]) % 230
                pixels = colour + rng.integers(0, 25, (64, 32, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(
                    pair / f"{pid:03d}_c{camera}_{number}.jpg"
                )
    return folder


def reidpipe(place: Path, *words: str) -> dict:
    """What the command prints with ``--json``, run in ``place`` as a process of its own."""
    finished = subprocess.run(
        [sys.executable, "-m", "cli", *words, "--json"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return {**json.loads(finished.stdout), "told": finished.stderr}


@pytest.mark.slow
def test_a_loss_a_trunk_a_dataset_and_a_parser_from_outside(place: Path):
    found = reidpipe(place, "prepare", "./mine.yaml", "--root", "data")
    assert [row["ids"] for row in found["counts"]] == [8, 4, 4]
    words = ("--plugin", "mine.py", "train", "my.yaml", "--dataset", "./mine.yaml", *SHORT)
    first = reidpipe(place, *words)
    assert len(first["made"]) == 2 and first["recipe"] == "my" and first["dataset"] == "pairs"
    assert json.loads((Path(first["model"]) / "model.json").read_text())["plugins"].keys() == {
        "mine.py"
    }
    metrics = reidpipe(place, "--plugin", "mine.py", "eval")
    assert (metrics["protocol"], metrics["queries"]) == ("everything", 4) and metrics["mAP"] > 0.5
    again = reidpipe(place, *words)
    assert again["made"] == [] and again["run"] == first["run"] and "making" not in again["told"]
    text = (place / "mine.py").read_text()
    (place / "mine.py").write_text(text.replace("self.scale * (", "self.scale * 1 * (", 1))
    changed = reidpipe(place, *words)
    assert len(changed["made"]) == 1 and changed["run"] != first["run"]
    (place / "mine.py").write_text(text)
    assert reidpipe(place, *words)["made"] == []
    maps = reidpipe(place, "--plugin", "stripes.py", "parse", "./mine.yaml", "--model", "stripes")
    assert maps["images"] == 40 and maps["failed"] == []


def test_what_was_made_with_a_plugin_says_so_without_it(trained: Console, place: Path):
    """In one line, and before anything is made."""
    plugin, recipe = ("--plugin", place / "mine.py"), place / "my.yaml"
    words = ("train", recipe, "--dataset", "folder", *TRAIN)
    run = trained.json(*plugin, *words)["run"]
    line = trained.mistake(*words)
    assert "found trunk 'two-layers'" in line and "--plugin FILE.py" in line
    line = trained.mistake("eval", run, notes=1)
    assert "made with plugin mine.py" in line and "trunk 'two-layers'" in line
    other = place / "other.py"
    other.write_text((place / "mine.py").read_text() + "\n")
    line = trained.mistake("--plugin", other, "eval", run, notes=1)
    assert "expected the same text" in line
    assert trained.json(*plugin, "eval", run)["run"] == run
    listed = trained.json(*plugin, "doctor")["plugins"]
    assert [plugin["names"] for plugin in listed] == [["loss soft-margin", "trunk two-layers"]]
    assert trained.json("doctor")["plugins"] == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.trunk=tinny", "did you mean 'tiny'"),
        ("model.heads.identity.kind=liner", "did you mean 'linear'"),
        ("stages.0.losses.0.loss=tripelt", "did you mean 'triplet'"),
        ("stages.0.schedule.kind=cosin", "did you mean 'cosine'"),
        ("stages.0.data.kind=shufled", "did you mean 'shuffled'"),
        ("stages.0.hooks=[{hook: cluter}]", "did you mean 'cluster'"),
        ("model.options.dimm=3", "model.options.dimm"),
        ("model.heads.identity.on=globl", "did you mean 'global'"),
        ("stages.0.losses.0.options.label_smothing=1", "did you mean 'label_smoothing'"),
        ("stages.0.schedule.rais=0.2", "rise"),
        ("stages.0.losses.1.options.margin=nan", "found margin='nan' for losses 'triplet'"),
        ("model.heads.identity.options.bias=no way", "found bias='no way'"),
        ("model.options.dim=3.5", "found dim=3.5 for model.options; expected int"),
    ],
)
def test_a_recipe_s_mistakes_come_before_any_artifact(console: Console, setting: str, message: str):
    line = console.mistake("train", "baseline-tiny", "--set", setting)
    assert message in line
    assert not (console.root / "artifacts").exists()


@pytest.mark.parametrize(
    ("option", "message"), [("epz=1", "did you mean 'eps'"), ("eps=wide", "found eps='wide'")]
)
def test_so_do_those_of_a_hook(console: Console, option: str, message: str):
    setting = f"stages.image.hooks.0.options.{option}"
    assert message in console.mistake("train", "pcl-clip-usl-tiny", "--set", setting)
    assert not (console.root / "artifacts").exists()


def test_an_unknown_parser_comes_before_any_artifact(console: Console):
    assert "did you mean 'schp-tiny'" in console.mistake("train", "--parsing", "schp-tinny")
    assert not (console.root / "artifacts").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id: market1501\n", "a dataset of the package has"),
        ("[1, 2]\n", "no mapping"),
        ("id: [", "YAML that cannot be read"),
        ("id: mine\ntitle: x\n", "found a wrong 'year'"),
    ],
)
def test_what_is_wrong_with_a_dataset_s_file(console: Console, tmp_path: Path, text, message):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    assert message in console.mistake("prepare", file, "--root", tmp_path)
    assert "found no dataset in" in console.mistake("prepare", tmp_path / "none.yaml")


def test_an_unknown_reader_names_the_nearest(console: Console, tmp_path: Path):
    file = tmp_path / "wrong.yaml"
    text = (EXAMPLES / "mine.yaml").read_text()
    file.write_text(text.replace("  - name: pairs\n", "  - name: pairs\n    reader: flies\n"))
    assert "did you mean 'files'" in console.mistake("prepare", file, "--root", tmp_path)


def test_pictures_of_a_withdrawn_dataset_of_one_s_own_are_not_drawn(console: Console, place: Path):
    text = (place / "mine.yaml").read_text().replace("policy: manual", "policy: never")
    (place / "withdrawn.yaml").write_text(text)
    console("prepare", place / "withdrawn.yaml", "--root", place / "data")
    line = console.mistake("parse", place / "withdrawn.yaml", "--preview")
    assert "withdrawn by their publisher" in line


def test_a_dataset_s_file_is_what_the_cure_says_to_type(console: Console, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    shutil.copy(EXAMPLES / "mine.yaml", file)
    line = console.mistake("train", "baseline-tiny", "--dataset", file)
    assert f"reidpipe prepare {file}" in line
    assert f"reidpipe prepare {file}" in console.mistake("prepare", file, "--root", tmp_path)
