"""The log of a step."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from pipeline.artifacts import attempts
from pipeline.artifacts.attempts import Reader, StepLog, emptied, recorded
from pipeline.artifacts.mark import files_of
from pipeline.terminal.errors import ReidpipeError


def lines(folder: Path) -> list[str]:
    return (folder / "step.log").read_text().splitlines()


def test_what_is_printed_is_kept_and_still_printed(tmp_path: Path, capsys):
    with recorded(tmp_path):
        assert not (tmp_path / "step.log").exists()  # an empty folder stays one for its worker
        sys.stdout.write("one\n")
        sys.stderr.write("tw")
        sys.stderr.write("o\x1b[2J\n")
        sys.stderr.write("10 %\r20 %\r100 %")
    begun, *printed, done = lines(tmp_path)
    assert begun.startswith("-- begun ") and done.startswith("-- done ")
    assert printed[:2] == ["one", "two\\x1b[2J"] and printed[-1] == "100 %"
    out, err = capsys.readouterr()
    assert out == "one\n" and err.startswith("two\x1b[2J\n")
    assert files_of(tmp_path) == []


def test_apart_nothing_else_is_printed(tmp_path: Path, capsys):
    with recorded(tmp_path, apart=True):
        sys.stdout.write("one\n")
        assert logging.lastResort is not None
        logging.lastResort.handle(logging.makeLogRecord({"msg": "two"}))
        assert not sys.stderr.isatty()
    assert capsys.readouterr() == ("", "") and lines(tmp_path)[1:3] == ["one", "two"]


def test_attempts_follow_each_other_with_their_ends(tmp_path: Path):
    with pytest.raises(ReidpipeError), recorded(tmp_path):
        raise ReidpipeError("found x; expected y; type z")
    with pytest.raises(ZeroDivisionError), recorded(tmp_path):
        sys.stdout.write(str(1 // 0))
    with pytest.raises(KeyboardInterrupt), recorded(tmp_path):
        raise KeyboardInterrupt
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "file").touch()
    emptied(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step.log"]
    told = [line.split()[1] for line in lines(tmp_path)]
    assert told.count("begun") == 3 and told.count("failed") == 2 and told.count("stopped") == 1
    assert "-- found x; expected y; type z" in lines(tmp_path)
    assert sum("ZeroDivisionError" in line for line in lines(tmp_path)) == 1


def test_a_log_stays_small_and_its_reader_loses_nothing_it_was_in_time_for(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(attempts, "LARGEST", 4000)
    monkeypatch.setattr(attempts, "KEPT", 2000)
    log, reader = StepLog(tmp_path / "step.log"), Reader(tmp_path)
    heard = []
    for number in range(2000):
        log.write(f"line {number}\n")
        assert (tmp_path / "step.log").stat().st_size <= 4100
        if number % 50 == 0:
            heard += reader.lines()
    heard += reader.lines()
    assert heard == [f"line {number}" for number in range(2000)]
    assert lines(tmp_path)[0].endswith("bytes of earlier lines were left out")
    log.note("about it")
    log.write("half a line")
    assert reader.lines() == []
    assert Reader(tmp_path).lines() == []  # of earlier attempts


def test_a_disk_that_refuses_stops_no_work(tmp_path: Path):
    with recorded(tmp_path / "absent"):
        sys.stdout.write("one\n")
    (tmp_path / "step.log").symlink_to(tmp_path / "elsewhere")
    with recorded(tmp_path):
        sys.stdout.write("one\n")
    assert not (tmp_path / "elsewhere").exists() and Reader(tmp_path).lines() == []
