"""``train --eval-every --eval-on --keep --continue``, and what takes a kept epoch."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from reid_train import load_model
from reid_train.engine.checkpoint import read_state_dict
from tests.cli.conftest import SETTINGS, Console, as_two_processes
from tests.conftest import PROJECT

SET = [part for text in SETTINGS if "epochs" not in text for part in ("--set", text)]
TRAIN = ["train", "baseline-tiny", "--dataset", "folder", *SET]
TRAIN += ["--epochs", "3", "--seed", "2", "--device", "cpu"]
LOOK = ["--eval-every", "2", "--eval-on", "folder", "--keep", "best,last,1"]


def trained_model(console: Console, run: str) -> Path:
    about = json.loads((console.root / "runs" / run / "run.json").read_text())
    return console.root / "artifacts" / "model" / about["model_key"]


@pytest.fixture(scope="module")
def looked(session_console: Console, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workspace with a run that was looked at and has all its epochs; what its command told."""
    root = tmp_path_factory.mktemp("looked") / "workspace"
    shutil.copytree(session_console.root, root)
    console = Console(root)
    return console, console(*TRAIN, *LOOK)


@pytest.fixture
def copy(looked: tuple[Console, Any], tmp_path: Path) -> Console:
    shutil.copytree(looked[0].root, tmp_path / "workspace")
    return Console(tmp_path / "workspace")


def test_a_training_is_looked_at_and_says_what_that_cost(looked):
    console, result = looked
    lines = [line for line in result.stderr.splitlines() if "validation mAP" in line]
    assert [line[:16] for line in lines] == ["image: epoch 2/3", "image: epoch 3/3"]
    assert all("on folder (protocol standard)" in line for line in lines)
    cost, told = [line for line in result.stdout.splitlines() if line.startswith("validation: ")]
    assert "2 times on folder (protocol standard), " in cost and "best mAP" in cost
    # The images typed are the test's: nobody may take the figures for a validation's.
    assert "36 of the 36 images of folder are test images of folder" in told
    assert told in result.stderr
    assert "@1" in result.stdout and "@2, and the last" in result.stdout
    run = next(word for word in result.stdout.split() if word.startswith("baseline-tiny-"))
    with (trained_model(console, run) / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["val_mAP"]) for row in rows] == [False, True, True]
    again = console.json(*TRAIN, *LOOK)
    assert again["made"] == [] and again["kept"] == [1, 2]
    assert [row["epoch"] for row in again["validation"]["epochs"]] == [2, 3]


def test_epochs_are_evaluated_reported_exported_and_loaded(copy):
    run = copy.json(*TRAIN, *LOOK)["run"]
    folder = trained_model(copy, run)
    validation = json.loads((folder / "validation.json").read_text())
    second = copy.json("eval", f"{run}@2")
    assert second["run"] == f"{run}@2"
    assert second["mAP"] == validation["epochs"][0]["mAP"]
    best = copy.json("eval", f"{run}@best")
    assert best["mAP"] == max(row["mAP"] for row in validation["epochs"])
    assert copy.json("eval", f"{run}@last")["run"] == run
    page = copy.json("eval", f"{run}@1", "--report")["report"]
    assert f"{run}@1" in Path(page).read_text()
    copy("export", f"{run}@1", "--format", "safetensors", "--out", copy.root / "one.safetensors")
    kept = (folder / "epochs" / "0001" / "model.safetensors").read_bytes()
    assert (copy.root / "one.safetensors").read_bytes() == kept
    loaded = load_model(f"{run}@1", workspace=copy.root).state_dict()
    last = load_model(f"{run}@last", workspace=copy.root).state_dict()
    assert any(not loaded[name].equal(last[name]) for name in last)
    row = next(row for row in copy.json("cache", "ls") if row["step"] == "epoch")
    assert row["about"].startswith("baseline-tiny seed 2 epoch ")
    copy("cache", "verify")


MORE = ["--epochs", "1", "--lr", "1e-9", "--device", "cpu"]


def test_going_on_is_a_new_model_that_stands_on_the_run(copy):
    run = copy.json(*TRAIN, *LOOK)["run"]
    more = copy.json("train", "--continue", f"{run}@2", *MORE)
    assert more["run"] != run and more["epochs"] == 1 and more["dataset"] == "folder"
    folder = trained_model(copy, more["run"])
    about = json.loads((folder / "artifact.json").read_text())
    assert about["inputs"]["start"]["name"] == "epoch"
    assert about["params"]["recipe"]["stages"][0]["epochs"] == 1
    # So slow that it stays where epoch 2 ended, heads and all.
    for name in ("model.safetensors", "heads.safetensors"):
        kept = trained_model(copy, run) / "epochs" / "0002" / name
        begun, ended = (read_state_dict(path) for path in (kept, folder / name))
        for key in begun:
            if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
                torch.testing.assert_close(begun[key], ended[key], rtol=0, atol=1e-6)
    again = copy.json("train", "--continue", f"{run}@2", *MORE)
    assert again["made"] == [] and again["run"] == more["run"]
    other = copy.json("train", "--continue", run, "--epochs", "1", "--seed", "5")
    assert other["run"] not in (run, more["run"]) and "-s5-" in other["run"]


def test_going_on_elsewhere_has_fresh_heads_and_says_so(copy, people, caplog):
    run = copy.json(*TRAIN, *LOOK)["run"]
    copy("prepare", "folder:other", "--root", people)
    more = copy.json("train", "--continue", run, "--dataset", "folder:other")
    assert more["dataset"] == "folder:other"
    assert more["epochs"] == 3  # of its last stage
    assert "heads (classifiers) start fresh: they knew the people of folder" in caplog.text


def test_a_model_that_is_complete_says_what_can_no_more_be_had(copy):
    run = copy.json(*TRAIN, *LOOK)["run"]
    told = copy.mistake(*TRAIN, *LOOK[2:], "--eval-every", "1")
    assert "no validation of epoch 1 of 3" in told and "reidpipe cache rm " in told
    copy(*TRAIN, "--keep", "last")
    told = copy.mistake("eval", f"{run}@7")
    assert "no epoch 7" in told and "1, 2 and the last, 3" in told


def test_weights_and_metrics_are_those_without_looking(copy, tmp_path):
    run = copy.json(*TRAIN, *LOOK)["run"]
    plain = Console(tmp_path / "plain")
    shutil.copytree(copy.root, plain.root)
    plain("cache", "rm", "model")
    plain("cache", "rm", "evaluation")
    plain(*TRAIN)
    weights = [trained_model(c, run) / "model.safetensors" for c in (copy, plain)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    found = [Path(c.json("eval", run)["folder"]) / "metrics.json" for c in (copy, plain)]
    assert found[0].read_bytes() == found[1].read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--eval-on", "mannequins:validation"], "found --eval-on .* without --eval-every"),
        (["--keep", "best"], "found --keep best without --eval-every"),
        (["--keep", "some"], "found 'some' in --keep"),
        (["--eval-every", "0"], "0 is not in the range"),
        (["--eval-every", "1", "--eval-on", "mannequin"], "did you mean 'mannequins'"),
        (["--eval-every", "1", "--dataset", "mannequins:other-world"], "type --eval-on DATASET"),
        (["--continue", "nothing"], "found no run"),
    ],
)
def test_mistakes_are_told_before_any_work(console, few_people, words, told):
    line = console.mistake("train", "baseline-tiny", *words)
    assert re.search(told, line), line
    assert not (console.root / "artifacts").exists()


def test_what_is_the_runs_matter_is_not_for_who_goes_on(trained):
    for words in (["--pretrained", "none"], ["--parsing", "schp"]):
        told = trained.mistake("train", "--continue", "baseline-tiny", *words)
        assert f"found {words[0]} beside --continue" in told
    told = trained.mistake("train", "slicenet2", "--continue", "baseline-tiny")
    assert "expected the same; leave it out" in told


@pytest.mark.slow
def test_mannequins_name_what_to_look_at(console, few_people):
    words = ["train", "baseline-tiny", *SET, "--epochs", "4", "--device", "cpu"]
    result = console(*words, "--eval-every", "2", "--keep", "best,last")
    assert result.stdout.count("2 times on mannequins:validation (protocol standard)") == 1
    assert "test images" not in result.stdout + result.stderr
    best = console.json("eval", "baseline-tiny@best", "--dataset", "mannequins:validation")
    found = console.json(*words, "--eval-every", "2", "--keep", "best,last")["validation"]
    assert best["mAP"] == max(row["mAP"] for row in found["epochs"])
    assert best["run"].endswith(f"@{found['best']}")


FEW = {
    "pcl-clip-usl-tiny": ("stages.image.epochs=2",),  # a hook that finds clusters
    "pi-vl-tiny": (  # prompts, label maps
        "stages.image.epochs=2", "stages.image.data.ids=4", "stages.identity-prompts.epochs=1",
        "stages.part-prompts.epochs=1",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("recipe", list(FEW))
def test_methods_train_the_same_when_looked_at(tmp_path, few_people, recipe):
    settings = [word for setting in FEW[recipe] for word in ("--set", setting)]
    words = ["train", recipe, "--device", "cpu", *settings]
    plain, looked = Console(tmp_path / "plain"), Console(tmp_path / "looked")
    run = plain.json(*words)["run"]
    assert looked.json(*words, "--eval-every", "1", "--keep", "best,1")["run"] == run
    for name in ("model.safetensors", "heads.safetensors"):
        files = [trained_model(console, run) / name for console in (plain, looked)]
        assert files[0].is_file() == files[1].is_file()
        if files[0].is_file():
            assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_a_killed_process_goes_on_and_looks_once_at_each_epoch(trained, tmp_path):
    words = ["train", "baseline-tiny", "--dataset", "folder", *SET, "--seed", "7", "--epochs", "6"]
    words += ["--eval-every", "1", "--eval-on", "folder", "--keep", "best", "--device", "cpu"]
    whole = Console(tmp_path / "whole")
    shutil.copytree(trained.root, whole.root)
    run = whole.json(*words)["run"]
    log = trained.root / "artifacts" / "model" / trained_model(whole, run).name / "log.jsonl"
    line = [sys.executable, "cli.py", "--workspace", str(trained.root), *words]
    process = subprocess.Popen(line, cwd=PROJECT, stderr=subprocess.DEVNULL)
    while not log.is_file() or log.read_text().count('"validation"') < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -9
    assert trained.json(*words)["run"] == run
    found = []
    for console in (trained, whole):
        folder = trained_model(console, run)
        lines = [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]
        rows = [(e["epoch"], e["mAP"]) for e in lines if e["event"] == "validation"]
        kept = sorted(path.name for path in (folder / "epochs").glob("*"))
        found.append((rows, kept, (folder / "model.safetensors").read_bytes()))
    assert found[0] == found[1]


@pytest.mark.slow
def test_of_two_processes_one_looks(trained):
    words = ["train", "baseline-tiny", "--dataset", "folder", *SET, "--seed", "8", "--epochs", "2"]
    words += ["--eval-every", "1", "--eval-on", "folder", "--keep", "1", "--device", "cpu"]
    told = as_two_processes("reid_train", "--workspace", str(trained.root), *words)
    assert told.count("2 times on folder") == 1
    run = next(word for word in told.split() if word.startswith("baseline-tiny-"))
    folder = trained_model(trained, run)
    lines = [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]
    assert [e["epoch"] for e in lines if e["event"] == "validation"] == [0, 1]
    assert (folder / "epochs" / "0001" / "model.json").is_file()
