"""What commands tell while they work, and ``reidpipe watch``."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.artifacts.runs import list_runs
from pipeline.artifacts.store import Workspace
from tests.cli.conftest import SETTINGS, Console

FOLDER = ("baseline-tiny", "--dataset", "folder", "--device", "cpu")
FEW = [part for setting in SETTINGS[:1] + SETTINGS[2:] for part in ("--set", setting)]


def model_of(console: Console, run: str) -> Path:
    workspace = Workspace(console.root)
    (found,) = [found for found in list_runs(workspace) if found.name == run]
    return workspace.folder(found.model)


def test_epochs_are_lines_on_stderr(trained: Console):
    result = trained("train", *FOLDER, *FEW, "--epochs", "2", "--json")
    folder = Path(json.loads(result.stdout)["model"])
    making, log, *epochs = result.stderr.splitlines()
    assert making.startswith("making model ") and log == f"log {folder / 'log.jsonl'}"
    assert [line.partition(", loss ")[0] for line in epochs] == [
        "image: epoch 1/2",
        "image: epoch 2/2",
    ]
    assert all(" lr " in e and " images/s, " in e and e.endswith(" left") for e in epochs)
    with (folder / "log.csv").open(newline="") as file:
        assert [(row["stage"], row["epoch"]) for row in csv.DictReader(file)] == [
            ("image", "1"),
            ("image", "2"),
        ]


def test_quiet_and_verbose(trained: Console):
    result = trained("-q", "train", *FOLDER, *FEW, "--epochs", "2")
    assert result.stderr == "" and "run baseline-tiny-" in result.stdout
    result = trained("-v", "train", *FOLDER, *FEW, "--epochs", "3")
    steps = [line for line in result.stderr.splitlines() if ", step " in line]
    assert steps[0].startswith("image: epoch 1/3, step 1/") and ", loss " in steps[0]
    assert [line for line in result.stderr.splitlines() if line.startswith("image: epoch 3/3, l")]
    assert "found -v and -q" in trained.mistake("-v", "-q", "status")
    assert "making" not in trained("-q", "eval", "--flip").stderr
    assert trained.mistake("-q", "eval", "nobody").startswith("Error: found no run 'nobody'")


def test_run_tells_them_too(trained: Console):
    result = trained("run", *FOLDER, *FEW, "--epochs", "2", "--seed", "1")
    lines = result.stderr.splitlines()
    assert sum(line.startswith("image: epoch 2/2, loss ") for line in lines) == 1


def test_short_forms_are_the_same_request(trained: Console):
    words = (*FOLDER, "--set", SETTINGS[0], "--set", SETTINGS[3], "--json")
    short = trained("train", *words, "--epochs", "2", "--batch", "4", "--lr", "1e-3")
    longer = trained(
        "train", *words, "--set", "stages.image.epochs=2", "--set", "stages.0.data.ids=2",
        "--set", "stages.image.optimiser.lr=0.001",
    )  # fmt: skip
    assert json.loads(short.stdout)["model"] == json.loads(longer.stdout)["model"]
    assert json.loads(longer.stdout)["made"] == []


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("train", "--epochs", "5"), ("--epochs 5 for pi-vl-tiny", "stages.image.epochs=5")),
        (("run", "pi-vl-tiny", "--lr", "1"), ("stages.image.optimiser.lr=1",)),
        (("train", "--set", "epochs=5"), ("stages.image.epochs", "a key in full")),
        (("train", "--epochs", "0"), ("'--epochs'", "range")),
        (("train", "--batch", "-4"), ("'--batch'", "range")),
        (("train", "--epochs", "two"), ("'--epochs'", "integer")),
        (("train", "--lr", "0"), ("'--lr'", "'0' is not a number above 0")),
        (("train", "--lr", "nan"), ("'--lr'", "'nan' is not")),
        (("run", "baseline-tiny", "--lr", "fast"), ("'--lr'", "'fast' is not")),
        (("train", "--log", "tensorbord"), ("did you mean 'tensorboard'", "csv")),
    ],
)
def test_mistakes_before_any_work(console: Console, words: tuple[str, ...], parts: tuple[str, ...]):
    line = console.mistake(*words)
    assert all(part in line for part in parts), line
    assert not (console.root / "artifacts").exists()


def test_a_tracker_that_is_not_installed(console: Console, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "wandb" else real(name, *a)
    )
    line = console.mistake("train", "--log", "csv,wandb")
    assert "pip install 'reidpipe[wandb]'" in line and not (console.root / "artifacts").exists()


def test_tensorboard_beside_the_log_changes_no_weight(trained: Console):
    plain = trained.json("train", *FOLDER, *FEW, "--epochs", "2")
    before = (Path(plain["model"]) / "model.safetensors").read_bytes()
    told = trained("train", *FOLDER, *FEW, "--epochs", "2", "--log", "csv,tensorboard")
    assert "trained before: tensorboard got nothing" in told.stderr
    trained("cache", "rm", Path(plain["model"]).name)
    again = trained.json("train", *FOLDER, *FEW, "--epochs", "2", "--log", "csv,tensorboard")
    folder = Path(again["model"])
    assert again["run"] == plain["run"]
    assert (folder / "model.safetensors").read_bytes() == before
    assert len(list((folder / "tensorboard").glob("events.out.tfevents.*"))) == 1
    assert trained("cache", "verify").exit_code == 0


def test_watch_draws_a_run_that_has_ended(trained: Console):
    run = trained.json("train", *FOLDER, *FEW, "--epochs", "3")["run"]
    for words in ((run,), ("baseline-tiny-folder-s0-" + run[-6:],), (run[-6:],), ()):
        result = trained("watch", *words)
        first, second = result.stdout.splitlines()[:2]
        assert f"for {run}: finished" in (first if words else second)
        assert bool(words) or first.startswith("nothing trains now")
        assert "image: epoch 3/3, loss " in result.stdout and "\x1b" not in result.stdout
        assert max(map(len, result.stdout.splitlines())) <= 80
    value = trained.json("watch", run, "--once")
    (training,) = value["trainings"]
    assert training["state"] == "finished" and training["runs"] == [run]
    assert training["log"] == str(model_of(trained, run) / "log.jsonl")
    assert [entry["epoch"] for entry in training["stages"][0]["curve"]] == [1, 2, 3]
    assert "found 2 runs for 'baseline-tiny'" in trained.mistake("watch", "baseline-tiny")
    assert "found no training 'nobody'" in trained.mistake("watch", "nobody")


def test_watch_of_an_empty_workspace(console: Console):
    assert "type reidpipe train" in console.mistake("watch")


def test_watch_imports_nothing_heavy(trained: Console):
    code = (
        "import sys, cli\n"
        f"try: cli.main(['--workspace', {str(trained.root)!r}, 'watch'])\n"
        "except SystemExit as left: assert not left.code\n"
        "assert not {'torch', 'dask', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
