"""The board at the foot of a terminal, as a terminal shows it."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artifacts.running import RunningStep
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.board import Board, fitted, rows, width_of
from pipeline.terminal.events import Events, prefixes, spoken

STEP = RunningStep(
    "model", "3f2a91bc00", "here", 1, 0.0, 9.0, recipe="pi-vl-tiny", seed=1, done=30, total=100,
    unit="steps", left=41, line="image: epoch 3/20, loss 1.234",
)  # fmt: skip
PIECE = re.compile(r"\x1b\[(\d*)([AJK])|(.)", re.DOTALL)


def screen(written: str, columns: int) -> list[str]:
    """What a terminal shows that wraps long lines and knows what the board asks of it."""
    lines, row, column = [""], 0, 0
    for number, action, char in PIECE.findall(written):
        if action == "A":
            row -= int(number)
            assert row >= 0
        elif action == "K":
            lines[row] = lines[row][:column]
        elif action == "J":
            lines[row:] = [lines[row][:column]]
        elif char == "\r":
            column = 0
        elif char == "\n" or column >= columns:
            row, column = row + 1, 0
        if row == len(lines):
            lines.append("")
        if char and char not in "\r\n":
            lines[row] = lines[row][:column].ljust(column) + char + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_what_is_written_stands_above_and_nothing_stays(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    board = Board(stream, lambda: (40, 10))
    monkeypatch.setattr(sys, "stderr", stream)
    board.open()
    board.show(["2 wait", "first " + "x" * 60, "second"])
    sys.stderr.write("making model 1\n")
    assert screen(stream.getvalue(), 40) == [
        "making model 1", "2 wait", "first " + "x" * 32 + "~", "second",
    ]  # fmt: skip
    board.show(["1 waits"])
    sys.stderr.write("half")
    board.show(["0 wait"])  # below an unfinished line there is no board
    assert screen(stream.getvalue(), 40) == ["making model 1", "half"]
    sys.stderr.write(" a line\n10 %")
    sys.stderr.write("\r20 %\r    \r")
    assert screen(stream.getvalue(), 40) == ["making model 1", "half a line", "0 wait"]
    board.close()
    assert sys.stderr is stream
    assert screen(stream.getvalue(), 40) == ["making model 1", "half a line", ""]
    assert max(width_of(line) for line in screen(stream.getvalue(), 40)) < 40


def test_more_steps_than_rows_and_a_narrower_terminal():
    stream, size = io.StringIO(), [30, 4]
    board = Board(stream, lambda: (size[0], size[1]))
    board.show([str(number) * 29 for number in range(6)])
    assert screen(stream.getvalue(), 30) == ["0" * 29, "1" * 29, "and 4 more"]
    size[0] = 15  # of each line two, as the terminal has broken them
    stream.write("\r\n")
    del stream
    assert board._back(15) == "\r\x1b[4A"


def test_lines_of_steps_are_cut_by_columns_and_printable():
    (line,) = rows([STEP], "here")
    assert line == (
        "model 3f2a91bc pi-vl-tiny seed 1 [###-------] 0:41 left, image: epoch 3/20, loss 1.234"
    )
    quiet = replace(STEP, line="", unit="images", left=None, host="there", recipe="\x1b[2J")
    assert rows([quiet], "here")[0].endswith("seed 1 [###-------] on there, 30/100 images")
    assert "\x1b" not in fitted(rows([quiet], "here")[0], 80)
    assert fitted("行人重識別", 7) == "行人重~" and width_of("行人e\u0301") == 5
    assert [spoken(seconds) for seconds in (4.06, 41.2, 723)] == ["4.1 s", "41 s", "12:03"]


def trained(seed: int, recipe: str = "pi-vl-tiny", dataset: str = "mannequins") -> Step:
    index = Step("index", {"dataset": dataset})
    return Step("model", {"recipe": {"name": recipe}, "seed": seed}, {"index": index})


def test_names_before_lines_tell_steps_apart():
    one, two = trained(1), trained(2)
    assert list(prefixes([one, two]).values()) == ["pi-vl-tiny s1", "pi-vl-tiny s2"]
    other = trained(1, dataset="mine")
    assert list(prefixes([one, other]).values()) == [
        "pi-vl-tiny s1 mannequins", "pi-vl-tiny s1 mine",
    ]  # fmt: skip
    evaluation = Step("evaluation", {}, {"model": one})
    found = prefixes([one, two, evaluation])
    assert (found[one.key], found[two.key]) == ("pi-vl-tiny s1", "pi-vl-tiny s2")
    assert found[evaluation.key] == "pi-vl-tiny s1 evaluation"
    assert len(set(prefixes([Step("maps", {"model": "a", "n": n}) for n in (1, 2)]).values())) == 2


def test_a_line_for_each_event_away_from_a_terminal(tmp_path: Path):
    workspace, said = Workspace(tmp_path), []
    events = Events(workspace, said.append)
    one, two = trained(1), trained(2)
    events.queued([one, two], together=2)
    events.started(one)
    events.started(two)
    folder = workspace.folder(one)
    folder.mkdir(parents=True)
    (folder / "step.log").write_text("-- begun\nimage: epoch 1/2\n")
    events.lost(two)
    events.started(two)
    events.finished(one, 41.2)
    events.failed(two, ValueError("bad\nthing"))
    events.close()
    making = [f"making model {step.key[:8]} (pi-vl-tiny mannequins seed" for step in (one, two)]
    assert said == [
        f"{making[0]} 1)",
        f"{making[1]} 2)",
        f"lost model {two.key[:8]}: its worker died; it goes on elsewhere from what is saved",
        f"{making[1]} 2)",
        "pi-vl-tiny s1 | image: epoch 1/2",
        f"made model {one.key[:8]} in 41 s, 1 of 2 steps",
        f"failed model {two.key[:8]}: bad thing",
    ]
    quiet = Events(workspace, said.append, quiet=True, draws=True)
    quiet.queued([one], together=2)
    quiet.started(one)
    quiet.close()
    assert len(said) == 7 and not (tmp_path / "queue").exists()
    # One after another in this process a step's lines come from itself, and its end is the next.
    alone = Events(workspace, said.append)
    alone.queued([one])
    alone(one)
    alone.finished(one, 1.0)
    alone.close()
    assert len(said) == 8


def test_on_a_pseudo_terminal_the_board_is_gone_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.terminal.events.EVERY_SECONDS", 0.02)
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        events = Events(Workspace(tmp_path), lambda line: print(line, file=sys.stderr), draws=True)  # noqa: T201
        one, two, three = (trained(seed) for seed in (1, 2, 3))
        events.queued([one, two, three], together=2)
        events.started(one)
        events.started(two)
        shown = ""
        while "1 wait" not in shown:
            shown += os.read(master, 65536).decode()
        events.finished(one, 2.0)
        events.close()
        assert sys.stderr is terminal
        monkeypatch.undo()
    while piece := _read(master):
        shown += piece
    os.close(master)
    assert "0 of 3 steps made, 1 wait" in shown and "[          ]" in shown
    lines = screen(shown, 100)
    assert lines == [
        f"making model {one.key[:8]} (pi-vl-tiny mannequins seed 1)",
        f"making model {two.key[:8]} (pi-vl-tiny mannequins seed 2)",
        f"made model {one.key[:8]} in 2.0 s, 1 of 3 steps",
        "",
    ]  # fmt: skip


def _read(master: int) -> str:
    try:
        return os.read(master, 65536).decode()
    except OSError:
        return ""
