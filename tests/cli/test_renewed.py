"""Runs of an older version: what it made is used, and what is gone is made by today's workers,
whatever the file says; nothing is made from other inputs than a key names.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from tests.cli.conftest import TRAIN, Console

# Who made what before the rooms; a file of a workspace may name anybody.
OLD = {
    "index": "pipeline.prepare:index",
    "images": "os:system",
    "model": "reid_train.work_train:train",
}


def as_before(step: dict[str, Any]) -> dict[str, Any]:
    """A step as the version before wrote it down."""
    before = {
        key: value for key, value in step.items() if key not in ("keyed", "inputs", "version")
    }
    return {
        **before,
        "inputs": {name: as_before(source) for name, source in step["inputs"].items()},
        "version": {"index": 2, "images": 1, "model": 1}[step["name"]],
        "worker": OLD[step["name"]],
        "resumable": step["name"] == "model",
        "collective": step["name"] == "model",
    }


def key_of(step: dict[str, Any]) -> str:
    content = {name: step[name] for name in ("name", "version", "params", "weights")}
    content["inputs"] = {name: key_of(source) for name, source in step["inputs"].items()}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def made_before(console: Console) -> tuple[str, Path]:
    """The console's run as the version before would have left it; its name and model's folder."""
    (file,) = (console.root / "runs").glob("*/run.json")
    content = json.loads(file.read_text())
    models = console.root / "artifacts" / "model"
    now, model = models / content["model_key"], as_before(content["model"])
    model["params"]["recipe"]["stages"][0]["trains"] = {"*": 1.0}
    then = models / key_of(model)
    now.rename(then)
    mark = json.loads((then / "artifact.json").read_text())
    (then / "artifact.json").write_text(json.dumps({**mark, **model, "key": then.name}))
    file.write_text(json.dumps({**content, "model": model, "model_key": then.name}, sort_keys=True))
    return content["name"], then


def test_a_run_of_the_version_before_evaluates_and_is_made_again(trained: Console):
    weights = next((trained.root / "artifacts" / "model").glob("*/model.safetensors")).read_bytes()
    run, folder = made_before(trained)
    first = trained.json("eval", run)
    assert (folder / "model.safetensors").read_bytes() == weights and first["run"] == run
    shutil.rmtree(folder)
    again = trained.json("eval", run)
    assert not folder.exists()  # an old key never holds what new code made
    (made,) = (trained.root / "artifacts" / "model").glob("*/model.safetensors")
    assert made.read_bytes() == weights
    assert again["mAP"] == first["mAP"]
    assert trained.json("eval", run)["folder"] == again["folder"]


def test_index_and_images_of_the_version_before_keep_their_keys(trained: Console):
    run, folder = made_before(trained)
    shutil.rmtree(folder)
    before = {
        p.name for s in ("index", "images") for p in (trained.root / "artifacts" / s).iterdir()
    }
    trained("eval", run)
    trained("train", "baseline-tiny", "--dataset", "folder", *TRAIN)
    after = {
        p.name for s in ("index", "images") for p in (trained.root / "artifacts" / s).iterdir()
    }
    assert after == before


def test_a_kind_of_step_that_nobody_knows_is_a_damaged_run(trained: Console):
    (file,) = (trained.root / "runs").glob("*/run.json")
    content = json.loads(file.read_text())
    content["model"]["name"] = "../../elsewhere"
    file.write_text(json.dumps(content))
    assert "found no run" in trained.mistake("eval")


def test_an_index_is_never_made_from_another_tree(trained: Console, people: Path, tmp_path: Path):
    """Its key holds the fingerprint of the tree that was asked for."""
    tree = tmp_path / "tree"
    shutil.copytree(people, tree)
    trained("prepare", "folder", "--root", tree, "--size", "32x16", "--filter", "bilinear")
    run = trained.json("train", "baseline-tiny", "--dataset", "folder", *TRAIN)["run"]
    for step in ("index", "images", "model", "evaluation"):
        shutil.rmtree(trained.root / "artifacts" / step)
    image = next((tree / "images" / "train").iterdir())
    os.utime(image, ns=(0, 0))
    line = trained.mistake("eval", run, notes=1)
    assert "found other files in" in line and str(tree) in line
    assert not list((trained.root / "artifacts" / "index").glob("*/index.csv"))


def test_the_same_recipe_under_another_name_is_found_made(trained: Console, tmp_path: Path):
    mine = tmp_path / "my.yaml"
    mine.write_text("base: baseline-tiny\nsummary: mine\n")
    found = trained.json("train", mine, "--dataset", "folder", *TRAIN)
    assert found["made"] == [] and found["run"].startswith("my-folder-s0-")
    assert trained.json("eval", found["run"])["recipe"] == "my"


def test_weights_that_were_exchanged_are_not_trained_on(trained: Console, tmp_path: Path):
    (model,) = (trained.root / "artifacts" / "model").glob("*/model.safetensors")
    start = tmp_path / "start.safetensors"
    shutil.copy(model, start)
    words = ("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--pretrained", start)
    run = trained.json(*words)
    shutil.rmtree(run["model"])
    start.write_bytes(start.read_bytes() + b"\0")
    line = trained.mistake("eval", run["run"], notes=1)
    assert "found other bytes in" in line and str(start) in line
