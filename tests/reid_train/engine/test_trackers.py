"""TensorBoard's and W&B's files, read by their own packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pipeline.terminal.errors import ReidpipeError
from pipeline.terminal.watching import Watching
from reid_train.engine.log import Log
from reid_train.engine.trackers import read_trackers, scalars
from tests.reid_train.engine.test_log import told

INSTALLED = {name: importlib.util.find_spec(name) is not None for name in ("tensorboard", "wandb")}


def test_names(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert read_trackers([]) == read_trackers(["csv"]) == ()
    assert read_trackers(["csv,tensorboard", " wandb , csv", "tensorboard"]) == (
        "tensorboard",
        "wandb",
    )


@pytest.mark.parametrize("text", ["tensorbord", "csv,,wandb", "", "CSV"])
def test_a_name_that_is_none(text: str, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ReidpipeError, match="expected csv, tensorboard, wandb.*type --log csv"):
        read_trackers([text])


def test_a_package_that_is_absent(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReidpipeError, match=r"pip install 'reidpipe\[wandb\]'") as error:
        read_trackers(["csv,wandb"])
    assert "\n" not in str(error.value)


def test_figures_by_name():
    entry = {"event": "epoch", "stage": "image", "epoch": 1, "epochs": 5, "lr": 0.1, "loss": 2.0,
             "part/x": 1.0, "gradient": 3.0, "images_per_s": 9.0, "seconds": 1.0}  # fmt: skip
    assert scalars(entry) == {
        "image/lr": 0.1, "image/loss": 2.0, "image/part/x": 1.0, "image/gradient": 3.0,
        "image/images_per_s": 9.0, "image/seconds": 1.0,
    }  # fmt: skip
    validation = {"event": "validation", "stage": "image", "epoch": 1, "dataset": "d",
                  "protocol": "p", "mAP": 0.5, "seconds": 2.0}  # fmt: skip
    assert scalars(validation) == {
        "image/validation/mAP": 0.5, "image/validation/seconds": 2.0
    }  # fmt: skip
    assert scalars({"event": "start", "stages": []}) == {}


def two_sessions(folder: Path, tracker: str) -> None:
    """Four epochs of one stage; the second was told after the last state, and is told again."""
    watching = Watching(-1, (tracker,))
    log = Log(folder, [("image", 4, 1)], watching=watching)
    log.begin_stage(0, 0, 0)
    told(log, 0, id=4.0)
    log.validation(0, dataset="d", protocol="p", figures={"mAP": 0.5, "Rank-1": 1.0}, seconds=1)
    kept = log.position()
    told(log, 1, id=9.0)
    log.close()
    log = Log(folder, [("image", 4, 1)], kept=kept, watching=watching)
    log.begin_stage(0, 1, 0)
    for epoch in (1, 2, 3):
        told(log, epoch, id=4.0 - epoch)
    log.close()


@pytest.mark.skipif(not INSTALLED["tensorboard"], reason="tensorboard is not installed")
def test_tensorboards_own_reader_finds_each_epoch_once(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    two_sessions(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("image/loss")] == [
        (1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0),
    ]  # fmt: skip
    assert [(e.step, e.value) for e in events.Scalars("image/validation/mAP")] == [(1, 0.5)]


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED["wandb"], reason="wandb is not installed")
def test_wandb_offline_is_one_run(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    two_sessions(tmp_path, "wandb")
    found = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(found) == 2 and len({path.name for path in found}) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert b"image/loss" in found[1].read_bytes()


@pytest.mark.skipif(not INSTALLED["wandb"], reason="wandb is not installed")
def test_wandb_that_cannot_begin_is_told(tmp_path: Path, monkeypatch):
    import wandb  # pyright: ignore[reportMissingImports]
    from wandb.errors import UsageError  # pyright: ignore[reportMissingImports]

    def refuse(**_: object) -> None:
        raise UsageError("No API key configured.\nUse `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ReidpipeError, match="No API key configured.*type wandb login") as error:
        two_sessions(tmp_path, "wandb")
    assert "\n" not in str(error.value)
