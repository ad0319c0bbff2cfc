"""The harness finds what it is there for: each fault, made on purpose."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pipeline.terminal.errors import ReidpipeError
from tests.fuzz.case import Case, Place
from tests.fuzz.harness import attempt


def judged(read, tmp_path: Path) -> str:
    def maker(rng, place: Place) -> Case:
        return Case("on purpose", read=lambda: read(place))

    return attempt("test", 0, 0, maker, tmp_path / "pristine", tmp_path).fault


def refuse(place: Place) -> None:
    raise ReidpipeError("found x; expected y; type z")


def traceback(place: Place) -> None:
    raise KeyError("x")


def line(place: Place) -> None:
    raise ReidpipeError("found\ntwo")


def crash(place: Place) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(place: Place) -> None:
    os.kill(os.getpid(), signal.SIGXCPU)


def memory(place: Place) -> None:
    bytearray(1 << 40)


def executed(place: Place) -> None:
    place.executed.write_text("x")


def outside(place: Place) -> None:
    (place.sibling / "x").write_text("x")


def deleted(place: Place) -> None:
    (place.home / "canary.txt").unlink()


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (refuse, ""), (traceback, "traceback"), (line, "line"), (crash, "crash"), (hang, "hang"),
        (memory, "traceback"), (executed, "executed"), (outside, "outside"), (deleted, "outside"),
    ],
)  # fmt: skip
def test_a_fault_is_found(read, fault: str, tmp_path: Path):
    assert judged(read, tmp_path) == fault
