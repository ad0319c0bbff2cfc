"""Libraries that take a signal for themselves, or make an error of their own of it: the line still
says what to type. In processes of their own.
"""

from __future__ import annotations

import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from pipeline.terminal.commandline import ToldCommand
from tests.pipeline.terminal.test_stopping import STOPPED, told

COMMAND = """
import os, signal, time
import click
from pipeline.terminal.commandline import ToldCommand

@click.command(cls=ToldCommand)
@click.argument("dataset")
def work(dataset):
{body}
    try:
        os.kill(os.getpid(), signal.{number})
        time.sleep(5)
    except KeyboardInterrupt as error:
        raise RuntimeError("found the loop broken") from error

work(args=["col780"], prog_name="reidpipe work")
"""
IMPORTED = """
    from pipeline import plugins
    plugins.use([{plugin!r}])
    from reid_train.losses import LOSSES
    LOSSES["mine"]
"""
PLUGIN = """
import signal, sys
from pipeline.plugins import register
signal.signal(signal.{number}, lambda *_: sys.exit())

@register.loss("mine")
class Mine:
    pass
"""
SLURM = """
    from distributed.security import Security
    from pipeline.artifacts.executors.cluster import Cluster
    from pipeline.artifacts.executors.launching import slurm
    from pipeline.terminal.errors import ReidpipeError
    try:
        slurm(Cluster(kind="slurm", options=dict(cores=1, memory="1GB")), Security())
    except ReidpipeError as error:
        assert "sbatch" in str(error)
    import dask_jobqueue
"""


def expect_told(body: str, number: signal.Signals) -> None:
    ended = told(COMMAND.format(body=body, number=number.name))
    expected = (128 + number, "", f"{STOPPED}: reidpipe work col780\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_error_that_a_library_made_of_it(number: signal.Signals):
    expect_told("", number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_plugin_that_takes_it_as_it_is_imported(tmp_path: Path, number: signal.Signals):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.format(number=number.name))
    expect_told(IMPORTED.format(plugin=str(plugin)), number)


@pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed")
@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="would ask SLURM itself")
def test_the_library_of_job_queues():
    expect_told(SLURM, signal.SIGINT)


def test_a_mistake_of_the_same_kind_without_a_signal_keeps_its_traceback():
    @click.command(cls=ToldCommand)
    def work() -> None:
        raise RuntimeError("found the loop broken")

    with pytest.raises(RuntimeError, match="loop broken"):
        work.main(args=[], prog_name="reidpipe work")
