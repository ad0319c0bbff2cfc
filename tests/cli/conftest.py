"""Commands in this process, on a dozen small generated people and a model of one epoch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

import cli
from pipeline.artifacts.steps import Job
from pipeline.mannequins import DEFAULTS, checked, render
from tests.conftest import PROJECT

SMALL: dict[str, Any] = {
    "identities": {"train": 4, "test": 6},
    "cameras": 2,
    "images": 3,
    "size": [64, 32],
}
SETTINGS = (
    "input.size=[32,16]",
    "stages.0.epochs=1",
    "stages.0.data.ids=2",
    "stages.0.data.images_per_id=2",
)
TRAIN = [part for setting in SETTINGS for part in ("--set", setting)]


@dataclass(frozen=True)
class Console:
    """``reidpipe --workspace <root>``, as typed."""

    root: Path

    def __call__(self, *words: str | Path, code: int = 0) -> Result:
        """Run a command; its exit code must be ``code``."""
        line = ["--workspace", str(self.root), *map(str, words)]
        result = CliRunner().invoke(cli.main, line, prog_name="reidpipe")
        # Anything but SystemExit would be a traceback at a person's terminal.
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    def json(self, *words: str | Path, code: int = 0) -> Any:
        """The value a command prints with ``--json``: stdout holds nothing else."""
        return json.loads(self(*words, "--json", code=code).stdout)

    def mistake(self, *words: str | Path, notes: int = 0) -> str:
        """The one line a mistake is told in; ``notes`` progress lines may stand before it."""
        result = self(*words, code=2)
        lines = result.stderr.splitlines()
        assert len(lines) == notes + 1, result.stderr
        assert lines[-1].startswith("Error: ") and not result.stdout
        return lines[-1]


def as_two_processes(module: str, *words: str) -> str:
    """What ``python -m module words`` prints when torchrun starts it twice; it must succeed."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    # Port 0: any that is free.
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    finished = subprocess.run(
        [*launcher, "-m", module, *words],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Commands set torch's threads for their process; the tests after them keep their own."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated people with ``index.csv``: 24 training images, 12 queries, 24 in the gallery."""
    folder = tmp_path_factory.mktemp("people")
    params = checked(DEFAULTS | SMALL)
    render(Job(folder=folder, params=params, inputs={}, workspace=folder))
    (folder / "dataset.json").unlink()
    return folder


@pytest.fixture(scope="session")
def session_console(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Console:
    console = Console(tmp_path_factory.mktemp("workspace"))
    console("prepare", "folder", "--root", people, "--size", "32x16", "--filter", "bilinear")
    console("train", "baseline-tiny", "--dataset", "folder", *TRAIN, "--device", "cpu")
    console("eval")
    return console


@pytest.fixture
def trained(session_console: Console, tmp_path: Path) -> Console:
    """A workspace with dataset ``folder``, one run and its evaluation; each test has its copy."""
    root = tmp_path / "workspace"
    shutil.copytree(session_console.root, root)
    return Console(root)


@pytest.fixture
def console(tmp_path: Path) -> Console:
    """An empty workspace."""
    return Console(tmp_path / "workspace")


@pytest.fixture
def few_people() -> Iterator[None]:
    """The generated dataset ``mannequins`` at the size of ``people``."""
    before = dict(DEFAULTS)
    DEFAULTS.update(SMALL)
    yield
    DEFAULTS.update(before)
