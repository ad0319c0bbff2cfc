"""The record of a run and what is told of it: whole, in order, each epoch once."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.terminal.errors import DamagedFile
from pipeline.terminal.watching import Watching
from reid_train.engine.log import LOG, Log, read_log
from reid_train.engine.loop import train
from reid_train.engine.runtime import Runtime
from reid_train.engine.table import COLUMNS, TABLE
from tests.reid_train.toy import Centre, Toy, plain_stage, toy_stages

RUNTIME = Runtime.create("cpu")
VALIDATION = ["val_dataset", "val_protocol", "val_mAP", "val_Rank-1", "val_seconds"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def header(folder: Path) -> list[str]:
    return (folder / TABLE).read_text().splitlines()[0].split(",")


def told(log: Log, epoch: int, **parts: float) -> None:
    """An epoch of one step."""
    figures = {"loss": sum(parts.values()), **parts, "gradient": 1.0}
    log.step(epoch, 0, 0.1, figures, images=4)
    log.epoch(epoch, figures, 100.0, 2.0)


def test_a_trainings_epochs_are_rows(tmp_path: Path):
    stages = toy_stages()
    train(Toy(norm=True), stages, runtime=RUNTIME, folder=tmp_path)
    entries = [entry for entry in read_log(tmp_path / LOG) if entry["event"] == "epoch"]
    found = rows(tmp_path)
    assert [(row["stage"], int(row["epoch"]), int(row["epochs"])) for row in found] == [
        (stage.name, epoch + 1, stage.epochs) for stage in stages for epoch in range(stage.epochs)
    ]
    for row, entry in zip(found, entries, strict=True):
        assert entry["epoch"] + 1 == int(row["epoch"])
        for name in ("loss", "lr", "images_per_s", "seconds", "error", "gradient"):
            assert float(row[name]) == entry[name]
    assert header(tmp_path)[: len(COLUMNS)] == list(COLUMNS)
    assert header(tmp_path)[-5:] == VALIDATION


def test_the_first_line_says_what_is_to_come(tmp_path: Path):
    watching = Watching(-1, runs=("a-b-s0-123456",))
    train(Toy(), [plain_stage()], runtime=RUNTIME, folder=tmp_path, watching=watching)
    assert read_log(tmp_path / LOG)[0] == {
        "event": "start",
        "runs": ["a-b-s0-123456"],
        "stages": [{"name": "plain", "epochs": 2, "steps": 6}],
    }


def test_stages_with_other_losses_share_one_table(tmp_path: Path):
    log = Log(tmp_path, [("one", 2, 1), ("two", 1, 1)])
    log.begin_stage(0, 0, 0)
    told(log, 0, id=1.0)
    first = header(tmp_path)
    told(log, 1, id=0.5)
    assert header(tmp_path) == first == [*COLUMNS, "id", "gradient", *VALIDATION]
    log.begin_stage(1, 0, 0)
    log.hook(0, {"clusters": 7.0})
    assert len(rows(tmp_path)) == 2  # no row before its epoch has ended
    told(log, 0, dense=3.0)
    log.close()
    assert header(tmp_path) == [*COLUMNS, "id", "gradient", "clusters", "dense", *VALIDATION]
    found = rows(tmp_path)
    assert [row["id"] for row in found] == ["1.0", "0.5", ""]
    assert [row["dense"] for row in found] == ["", "", "3.0"]
    assert [row["clusters"] for row in found] == ["", "", "7.0"]


def test_a_validation_is_a_line_of_the_log_and_cells_of_its_epoch(tmp_path: Path, capsys):
    log = Log(tmp_path, [("image", 2, 1)], watching=Watching())
    log.begin_stage(0, 0, 0)
    told(log, 0, id=1.0)
    assert rows(tmp_path)[0]["val_mAP"] == ""
    figures = {"mAP": 0.25, "Rank-1": 0.5, "mINP": 0.1}
    log.validation(0, dataset="d", protocol="standard", figures=figures, seconds=1.5)
    told(log, 1, id=0.5)
    log.close()
    found = rows(tmp_path)
    assert [[row[name] for name in VALIDATION] for row in found] == [
        ["d", "standard", "0.25", "0.5", "1.5"],
        [""] * 5,
    ]
    (entry,) = [entry for entry in read_log(tmp_path / LOG) if entry["event"] == "validation"]
    assert entry == {
        "event": "validation", "stage": "image", "epoch": 0, "dataset": "d",
        "protocol": "standard", **figures, "seconds": 1.5,
    }  # fmt: skip
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"log {tmp_path / LOG}"
    assert [line.partition(",")[0] for line in lines[1:]] == [
        "image: epoch 1/2", "image: epoch 1/2", "image: epoch 2/2",
    ]  # fmt: skip
    assert "validation mAP 25.0 %" in lines[2]


def test_a_run_that_goes_on_says_each_epoch_once(tmp_path: Path):
    log = Log(tmp_path, [("image", 4, 1)])
    log.begin_stage(0, 0, 0)
    log.hook(0, {"clusters": 3.0})
    told(log, 0, id=1.0)
    log.validation(0, dataset="d", protocol="p", figures={"mAP": 0.1, "Rank-1": 0.2}, seconds=1.0)
    kept = log.position()
    told(log, 1, id=0.7)  # after the last state, then killed
    log.close()
    (tmp_path / TABLE).write_text((tmp_path / TABLE).read_text() + "image,3,4,0.")

    log = Log(tmp_path, [("image", 4, 1)], kept=kept)
    assert [row["epoch"] for row in rows(tmp_path)] == ["1"]
    log.begin_stage(0, 1, 0)
    for epoch in (1, 2, 3):
        told(log, epoch, id=0.5)
    log.close()
    found = rows(tmp_path)
    assert [row["epoch"] for row in found] == ["1", "2", "3", "4"]
    assert [row["id"] for row in found] == ["1.0", "0.5", "0.5", "0.5"]
    assert found[0]["clusters"] == "3.0" and found[0]["val_mAP"] == "0.1"
    assert sum(entry["event"] == "start" for entry in read_log(tmp_path / LOG)) == 1


def test_what_an_earlier_run_left_without_a_state_is_no_part(tmp_path: Path):
    train(Toy(), [plain_stage(epochs=3)], runtime=RUNTIME, folder=tmp_path)
    (tmp_path / "state.pt").unlink()
    log = Log(tmp_path, [("image", 2, 1)])
    assert not (tmp_path / TABLE).exists()
    log.close()


class Reading(Centre):
    """Reads the log as another process does while it is written."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.found = folder, []

    def begin_epoch(self, task: Any, epoch: int) -> Any:
        entries = read_log(self.folder / LOG)
        self.found.append([entry["event"] for entry in entries].count("step"))
        return super().begin_epoch(task, epoch)


def test_lines_are_there_as_they_are_written(tmp_path: Path):
    hook = Reading(tmp_path)
    train(Toy(), [plain_stage(epochs=3, hooks=[hook])], runtime=RUNTIME, folder=tmp_path)
    assert hook.found == [0, 6, 12]


def test_another_process_than_the_first_writes_nothing(tmp_path: Path, capsys):
    log = Log(tmp_path, [("image", 2, 1)], main=False, watching=Watching(1, ("tensorboard",)))
    log.begin_stage(0, 0, 0)
    told(log, 0, id=1.0)
    log.end_stage()
    assert log.position() == 0
    log.close()
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().err


def test_a_line_being_written_is_none_yet_and_a_damaged_one_is_named(tmp_path: Path):
    path = tmp_path / "key" / LOG
    path.parent.mkdir()
    good = json.dumps({"event": "step"}) + "\n"
    path.write_text(good + good + '{"event": "st')
    assert len(read_log(path)) == 2
    for bad in ("\0" * 20, "[]", '{"loss": 1}', "\udcff"):
        path.write_bytes(f"{good}{bad}\n{good}".encode(errors="surrogateescape"))
        with pytest.raises(DamagedFile, match="found line 2 of .*type reidpipe cache rm key"):
            read_log(path)
