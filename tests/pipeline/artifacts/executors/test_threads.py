"""How many threads a step computes with: chosen once per machine, recorded, told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from pipeline.artifacts.executors import threads as module
from pipeline.artifacts.executors.threads import (
    computing_with,
    cores_here,
    current,
    file_of,
    sleep_soon,
    suited,
    threads_of,
)
from pipeline.terminal.errors import DamagedFile, ReidpipeError

LOADED_LATER = (
    "import numpy, threadpoolctl;"
    "print({pool['num_threads'] for pool in threadpoolctl.threadpool_info()})"
)


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    module._tell.cache_clear()
    for name in module.CHOSEN_BY:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (96, 4)])
def test_half_the_cores_up_to_four(cores: int, threads: int):
    assert suited(cores) == threads


def test_the_first_choice_stays_whatever_the_cores_are_later(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "cores_here", lambda: 8)
    assert threads_of(tmp_path) == 4
    monkeypatch.setattr(module, "cores_here", lambda: 2)
    assert threads_of(tmp_path) == 4
    monkeypatch.setattr(module.platform, "node", lambda: "../another/one")
    assert threads_of(tmp_path) == 1
    assert {path.suffix for path in (tmp_path / "machines").iterdir()} == {".json", ".lock"}
    assert len(list((tmp_path / "machines").glob("*.json"))) == 2


def test_asking_alone_records_nothing(tmp_path: Path):
    assert threads_of(tmp_path / "w", record=False) == suited(cores_here())
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("variable", module.CHOSEN_BY)
def test_the_environment_wins_and_a_difference_is_told_once(
    variable: str, tmp_path: Path, monkeypatch, caplog
):
    monkeypatch.setattr(module, "cores_here", lambda: 2)
    assert threads_of(tmp_path) == 1
    monkeypatch.setenv(variable, "3")
    assert threads_of(tmp_path) == threads_of(tmp_path) == 3
    (told,) = caplog.messages
    assert told.startswith(f"{variable}=3: this machine has computed with 1 threads")
    monkeypatch.setenv(variable, "1")
    assert threads_of(tmp_path) == 1 and len(caplog.messages) == 1


def test_what_the_environment_says_at_first_is_what_the_machine_has(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    assert threads_of(tmp_path) == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_of(tmp_path) == 3
    assert json.loads(file_of(tmp_path).read_text())["chosen_by"] == "OMP_NUM_THREADS"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("REIDPIPE_THREADS", "5")
    assert threads_of(tmp_path) == 5


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e3", "99999999999", "²", "1.5", "2 3"])
def test_a_variable_that_is_no_number_is_a_mistake(text: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("REIDPIPE_THREADS", text)
    with pytest.raises(ReidpipeError, match="expected a number of threads from 1 to 1024"):
        threads_of(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"threads": 0}', '{"threads": true}', "null"])
def test_a_record_of_another_shape_is_damaged(text: str, tmp_path: Path):
    file_of(tmp_path).parent.mkdir()
    file_of(tmp_path).write_text(text)
    with pytest.raises(DamagedFile):
        threads_of(tmp_path)


def test_two_processes_that_choose_at_once_choose_the_same(tmp_path: Path):
    code = (
        "import sys, pathlib; from pipeline.artifacts.executors.threads import threads_of;"
        "sys.stdin.readline(); print(threads_of(pathlib.Path(sys.argv[1])), flush=True);"
        "sys.stdin.readline();"
        "import os; [os.environ.pop(n, 0) for n in ('OMP_NUM_THREADS', 'REIDPIPE_THREADS')];"
        "print(threads_of(pathlib.Path(sys.argv[1])))"
    )
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "REIDPIPE_THREADS": number},
        )
        for number in "23"
    ]
    for process in asking:
        assert process.stdin is not None
        process.stdin.write("now\n")
        process.stdin.flush()
    for process in asking:
        assert process.stdout is not None
        process.stdout.readline()
    found = {process.communicate("again\n")[0].strip() for process in asking}
    assert len(found) == 1 and found <= {"2", "3"}


def test_all_that_computes_gets_the_number_and_its_own_one_back():
    before, environment = torch.get_num_threads(), dict(os.environ)
    with computing_with(2):
        assert torch.get_num_threads() == 2
        assert {pool["num_threads"] for pool in threadpool_info()} == {2}
        found = subprocess.run(
            [sys.executable, "-c", LOADED_LATER],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert found.stdout.strip() == str({min(2, cores_here())})
    assert torch.get_num_threads() == before
    changed = {name: value for name, value in os.environ.items() if environment.get(name) != value}
    assert changed.keys() <= module._WAITING.keys()


def test_who_leaves_first_takes_nothing_from_who_stays():
    """As a step that waits for its chunks ends while another computes in the same process."""
    before = torch.get_num_threads()
    waiting, computing = computing_with(2), computing_with(2)
    waiting.__enter__()
    computing.__enter__()
    waiting.__exit__(None, None, None)
    assert torch.get_num_threads() == 2 and current() == 2
    with computing_with(3):
        assert torch.get_num_threads() == 3 and os.environ["OMP_NUM_THREADS"] == "3"
    assert torch.get_num_threads() == 2 and os.environ["OMP_NUM_THREADS"] == "2"
    computing.__exit__(None, None, None)
    assert torch.get_num_threads() == before and current() is None


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_sleep_soon_unless_the_user_says_otherwise(given, spins, monkeypatch):
    told = {*module._WAITING, "OMP_WAIT_POLICY"}
    plain = {name: value for name, value in os.environ.items() if name not in told}
    monkeypatch.setattr(os, "environ", {**plain, **given})
    sleep_soon()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
    assert ("KMP_BLOCKTIME" in os.environ) == ("OPENBLAS_THREAD_TIMEOUT" in os.environ)
    assert ("KMP_BLOCKTIME" in os.environ) == (spins is not None)


def test_a_container_with_a_quota_has_the_cores_it_pays_for(tmp_path: Path):
    own, root = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("5:cpu,cpuacct:/a\n0::/pod/box\n")
    (root / "pod" / "box").mkdir(parents=True)
    assert module._quota(root, own) == 0
    (root / "pod" / "box" / "cpu.max").write_text("max 100000\n")
    assert module._quota(root, own) == 0
    (root / "pod" / "cpu.max").write_text("250000 100000\n")
    assert module._quota(root, own) == 2.5
    (root / "cpu" / "a").mkdir(parents=True)
    (root / "cpu" / "a" / "cpu.cfs_quota_us").write_text("-1\n")
    (root / "cpu" / "a" / "cpu.cfs_period_us").write_text("100000\n")
    assert module._quota(root, own) == 2.5
    (root / "cpu" / "a" / "cpu.cfs_quota_us").write_text("150000\n")
    assert module._quota(root, own) == 1.5
    assert module._quota(tmp_path / "none", tmp_path / "none") == 0
