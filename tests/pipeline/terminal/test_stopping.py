"""Signals, in processes of their own: one line, the exit code, no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

STOPPED = "Stopped. What is made is kept; the same command continues"
COMMAND = """
import os, signal, sys, time
import click
from pipeline.terminal.commandline import ToldCommand

def strike(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    time.sleep(5)

class Struck:
    def __del__(self):
        strike()

def library():
    try:
        strike()
    except KeyboardInterrupt as error:
        raise RuntimeError("a library's own words") from error

@click.command(cls=ToldCommand)
def main():
    {body}
    print("the end")

main(args=[], prog_name="x")
"""


def told(code: str, *, ignoring: int | None = None) -> subprocess.CompletedProcess[str]:
    def before() -> None:
        if ignoring is not None:
            signal.signal(ignoring, signal.SIG_IGN)

    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=before,
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("strike(signal.SIGINT)", 130),
        ("strike()", 143),
        ("strike(signal.SIGHUP)", 129),
        ("library()", 143),  # that makes an error of its own of it
        ("Struck(); time.sleep(5)", 143),  # where no exception can be raised
    ],
)
def test_a_signal_is_one_line(body: str, code: int):
    ended = told(COMMAND.format(body=body))
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    assert ended.stderr.splitlines() == [STOPPED + ": x"] or ended.stderr == STOPPED + "\n"


def test_what_nohup_switched_off_stays_off():
    ended = told(COMMAND.format(body="os.kill(os.getpid(), 1)"), ignoring=signal.SIGHUP)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the end\n", "")


@pytest.mark.parametrize("name", ["click", "cli", "pipeline.artifacts.graph"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_while_imports_run(name: str, number: int, code: int):
    """Ctrl-C in the first second, at a moment that the test can name."""
    program = f"""
import os, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Finder())
sys.argv = ["reidpipe", "datasets"]
from reid_train.__main__ import main
main()
"""
    ended = told(program)
    assert (ended.returncode, ended.stderr) == (code, STOPPED + "\n")


def reidpipe(*words: str, stdout: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "reid_train", *words]
    return subprocess.Popen(line, cwd=PROJECT, stdout=stdout, stderr=subprocess.PIPE, text=True)  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_who_reads_no_further_is_no_mistake():
    """``reidpipe recipes --json | head -1``."""
    process = reidpipe("recipes", "--json", stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait(60)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_below_stdout_is_one_line():
    with Path("/dev/full").open("w") as full:
        process = reidpipe("recipes", stdout=full)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith("Error: found the disk full") and stderr.count("\n") == 1
