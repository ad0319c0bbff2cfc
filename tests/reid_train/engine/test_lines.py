"""What a person reads on stderr while something trains."""

from __future__ import annotations

import os
import pty
import sys
import termios

import pytest

from pipeline.terminal.watching import QUIET, Watching
from reid_train.engine import lines
from reid_train.engine.lines import Lines, clock, facts, loss_parts, validation_line

STEP = {
    "event": "step", "stage": "image", "epoch": 2, "step": 4, "lr": 0.00035,
    "loss": 1.2341, "id": 0.9001, "triplet": 0.334, "gradient": 5.0, "accuracy": 0.5,
}  # fmt: skip
EPOCH = {**STEP, "event": "epoch", "epochs": 20, "images_per_s": 511.6, "seconds": 3.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (11.6, "0:12"), (59.6, "1:00"), (3723, "1:02:03"), (183845, "2 d 3:04:05")],
)
def test_a_clock(seconds: float, text: str):
    assert clock(seconds) == text


def test_parts_are_the_losses_alone():
    assert loss_parts(STEP) == {"id": 0.9001, "triplet": 0.334} == loss_parts(EPOCH)
    assert facts(STEP) == "loss 1.234 (id 0.900, triplet 0.334), lr 3.5e-04"
    alone = {"loss": 1.0, "id": 1.0, "gradient": 2.0}
    assert facts(alone) == "loss 1.000"  # a sum of one part is that part


def test_an_epochs_line_and_the_time_left(capsys: pytest.CaptureFixture[str], monkeypatch):
    now = [100.0]
    monkeypatch.setattr(lines.time, "monotonic", lambda: now[0])
    told = Lines(Watching(), bar=True)  # no terminal: no bar
    told.begin_stage("image", epochs=20, steps=10, done=15)
    now[0] += 30.0  # for the 15 steps to the end of epoch 3: 2 s each
    told.step(STEP, images=8)
    told.epoch(EPOCH)
    told.end_stage()
    assert capsys.readouterr().err.splitlines() == [
        "image: goes on with epoch 2/20, step 6/10",
        "image: epoch 3/20, loss 1.234 (id 0.900, triplet 0.334), lr 3.5e-04, 512 images/s, "
        "5:40 left",
    ]


def test_verbosity(capsys: pytest.CaptureFixture[str]):
    for watching in (Watching(1), QUIET):
        told = Lines(watching, bar=False)
        told.begin_stage("image", epochs=20, steps=10, done=0)
        told.step(STEP, images=8)
        told.end_stage()
    assert capsys.readouterr().err == (
        "image: epoch 3/20, step 5/10, loss 1.234 (id 0.900, triplet 0.334), lr 3.5e-04\n"
    )


def test_a_validations_line():
    entry = {"stage": "image", "epoch": 3, "dataset": "mannequins:other", "protocol": "standard",
             "mAP": 0.5612, "Rank-1": 0.78, "seconds": 3.21}  # fmt: skip
    assert validation_line(entry, 20) == (
        "image: epoch 4/20, validation mAP 56.1 %, Rank-1 78.0 % on mannequins:other (protocol "
        "standard), 3.2 s"
    )


def test_a_terminal_that_went_away_ends_the_lines_alone(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        told = Lines(Watching(), bar=False)
        told.begin_stage("image", epochs=20, steps=10, done=0)
        told.epoch(EPOCH)
        told.epoch(EPOCH)
        monkeypatch.undo()
        assert told.verbosity == -1
        # What could not be written is still in its buffer.
        with pytest.raises(BrokenPipeError):
            gone.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())


def test_on_a_terminal_one_bar_has_the_same_facts(monkeypatch):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 200))
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        told = Lines(Watching(), bar=True)
        told.begin_stage("image", epochs=20, steps=10, done=0)
        assert told.bar is not None and told.bar.total == 200
        told.step(STEP, images=8)
        told.bar.refresh()
        told.epoch(EPOCH)
        told.end_stage()
        monkeypatch.undo()
        shown = os.read(master, 65536).decode()
    os.close(master)
    drawn = next(part for part in reversed(shown.split("\r")) if "|" in part)
    assert drawn.startswith("image: epoch 3/20 |") and " left, loss 1.234, lr 3.5e-04, " in drawn
    assert "images/s, id 0.900, triplet 0.334" in drawn
    line = "image: epoch 3/20, loss 1.234 (id 0.900, triplet 0.334), lr 3.5e-04, 512 images/s, "
    assert line in shown  # above the bar
    assert Lines(QUIET, bar=True).draws is False
