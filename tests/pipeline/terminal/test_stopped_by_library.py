"""A library that makes an error of its own of a signal: the line still says what to type."""

from __future__ import annotations

import os
import signal

import click
import pytest

from pipeline.terminal.commandline import ToldCommand


def interrupted(dataset: str) -> None:
    assert dataset == "col780"
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as error:
        raise RuntimeError("found the loop broken") from error


def test_the_command_is_told_whatever_a_library_made_of_the_signal(
    capsys: pytest.CaptureFixture[str],
):
    command = ToldCommand("work", callback=interrupted, params=[click.Argument(["dataset"])])
    with pytest.raises(SystemExit) as ended:
        command.main(args=["col780"], prog_name="reidpipe work")
    assert ended.value.code == 130
    line = "Stopped. What is made is kept; the same command continues: reidpipe work col780\n"
    assert capsys.readouterr().err == line


def test_a_mistake_of_the_same_kind_without_a_signal_keeps_its_traceback():
    @click.command(cls=ToldCommand)
    def work() -> None:
        raise RuntimeError("found the loop broken")

    with pytest.raises(RuntimeError, match="loop broken"):
        work.main(args=[], prog_name="reidpipe work")
