"""What ``status`` says of runs whose artifacts are gone, and what a model says of its training."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from pipeline.artifacts import commands, running
from pipeline.artifacts.locks import holding
from pipeline.artifacts.queue import queued
from pipeline.artifacts.running import Running, at_work
from pipeline.artifacts.runs import find_run
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from tests.cli.conftest import Console


def test_status_says_what_would_be_made(trained: Console):
    (run,) = trained.json("status")["runs"]
    assert (run["state"], run["would_make"]) == ("ready", [])
    assert trained("status").stdout.splitlines()[-1].endswith("ready")
    trained("cache", "rm", "model")
    (run,) = trained.json("status")["runs"]
    assert (run["state"], run["would_make"]) == ("would make 1", ["model"])
    trained("cache", "rm", "images")
    trained("cache", "rm", "index")
    (run,) = trained.json("status")["runs"]
    assert run["state"] == "would make 3"
    assert run["would_make"] == ["index", "images", "model"]
    assert "would make 3" in trained("status").stdout


def test_status_imports_no_torch(trained: Console):
    code = (
        "import sys, cli\n"
        f"try: cli.main(['--workspace', {str(trained.root)!r}, 'status'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'dask'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_model_tells_its_training_figures(trained: Console):
    workspace = Workspace(trained.root)
    model = find_run(workspace, None).model
    about = json.loads((workspace.folder(model) / "model.json").read_text())
    assert {"recipe", "preprocessing", "identity_order", "versions", "metrics"} <= about.keys()
    log = (workspace.folder(model) / "log.jsonl").read_text().splitlines()
    epoch = [line for line in map(json.loads, log) if line["event"] == "epoch"][-1]
    assert about["metrics"] and "loss" in about["metrics"]
    assert all(epoch[name] == value for name, value in about["metrics"].items())


@contextlib.contextmanager
def being_made(workspace: Workspace, seed: int, after: int) -> Iterator[Running]:
    """A step at work, and another that waits for it."""
    step, waits = (Step("model", {"recipe": {"name": "r"}, "seed": n}) for n in (seed, after))
    folder = workspace.folder(step)
    lock = folder.with_suffix(".lock")
    with queued(workspace, [step, waits]), holding(lock, ""), at_work(folder, step) as told:
        yield told


@pytest.fixture
def between_looks(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens between two looks instead of time that passes, one after another."""
    happens: list[Callable[[], object]] = []

    def sleep(_: float) -> None:
        if happens:
            happens.pop(0)()

    clock = SimpleNamespace(sleep=sleep, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr(running, "time", clock)
    return happens


def test_a_change_is_told_once_until_nothing_is_made(console: Console, between_looks: list):
    with contextlib.ExitStack() as stack:
        told = stack.enter_context(being_made(Workspace(console.root), 1, 2))
        between_looks += [lambda: None, lambda: told.report(1, 4, "images"), stack.close]
        lines = console("status", "--watch").stdout.splitlines()
    assert between_looks == []
    first, queue, empty, second, *rest = lines
    assert first.startswith("model ") and "r seed 1" in first and first.endswith("[          ]")
    assert queue.startswith("1 wait: model ") and queue.endswith(" r seed 2") and not empty
    assert second.endswith("[##--------] 1/4 images")
    assert rest == [queue, "", "nothing is being made, and nothing waits"]


def test_a_terminal_is_drawn_in_place(
    console: Console, between_looks: list, monkeypatch: pytest.MonkeyPatch
):
    drawn = io.StringIO()
    monkeypatch.setattr(drawn, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(commands, "sys", SimpleNamespace(stdout=drawn))
    with contextlib.ExitStack() as stack:
        told = stack.enter_context(being_made(Workspace(console.root), 1, 2))
        between_looks += [lambda: told.report(1, 4, "images"), stack.close]
        assert console("status", "--watch", "5").stdout.startswith("nothing is being made")
    assert drawn.getvalue().count("\x1b[1A") == 2 and drawn.getvalue().endswith("\x1b[J")
    assert "1/4 images" in drawn.getvalue()


def test_ctrl_c_ends_the_telling_alone(console: Console, between_looks: list):
    def stop() -> None:
        raise KeyboardInterrupt

    with being_made(Workspace(console.root), 1, 2):
        between_looks += [stop]
        assert "nothing" not in console("status", "--watch").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--watch", "--json"), ("status", "--watch", "nan"), ("status", "--watch", "0"),
        ("status", "--watch", "inf"), ("watch", "--every", "nan"), ("watch", "--every", "1e9"),
    ],
)  # fmt: skip
def test_seconds_that_no_clock_knows(console: Console, words: tuple[str, ...]):
    assert words[1] in console.mistake(*words)
