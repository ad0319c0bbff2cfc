"""Locks that hold between machines: processes that share nothing but a folder.

Another machine is simulated by another name of the kernel and no locks of the operating system.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.artifacts import leases, locks
from pipeline.artifacts.leases import Place, Who
from pipeline.artifacts.locks import Held, drop_dead_leases, holding, is_held
from pipeline.terminal.errors import ReidpipeError

# argv: folder, kernel, whether locks work, how often; prints what it does.
MACHINE = """
import sys, time, random
from pathlib import Path
from pipeline.artifacts import leases, locks
leases.STALE = locks.STALE = 1.0
leases.BEAT = 0.1
folder, kernel, works, turns = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1", int(sys.argv[4])
if not works:
    locks.locks_work = lambda path: False
locks._POLL_SECONDS = 0.005
inside = folder / "inside"
for turn in range(turns):
    with locks.holding(folder / "key.lock", "it", kernel=kernel) as lease:
        print("holds", flush=True)
        if turns == 1:
            sys.stdin.readline()
            lease.check()
            print("wrote", flush=True)
            break
        inside.touch(exist_ok=False)  # raises where two are inside
        count = folder / "count"
        seen = int(count.read_text()) if count.exists() else 0
        time.sleep(random.random() / 300)
        count.write_text(str(seen + 1))
        inside.unlink()
"""


def machine(folder: Path, kernel: str, *, works: bool = False, turns: int = 1) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", MACHINE, str(folder), kernel, str(int(works)), str(turns)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (leases, locks):
        monkeypatch.setattr(module, "STALE", 0.6)
    monkeypatch.setattr(leases, "BEAT", 0.05)
    monkeypatch.setattr(locks, "_POLL_SECONDS", 0.02)


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "locks_work", lambda path: False)


def test_one_holder_and_nothing_left_but_the_lock(tmp_path: Path):
    path = tmp_path / "key.lock"
    assert not is_held(path)
    with holding(path, "it") as lease:
        lease.check()
        assert is_held(path)
        with pytest.raises(Held), holding(path, "it", wait=False):
            pass
    assert not is_held(path)
    assert [file.name for file in tmp_path.iterdir()] == ["key.lock"]


@pytest.mark.parametrize("kernels", [["a", "b", "c"], ["a", "a", "b"]])
def test_machines_that_see_no_locks_are_never_two_inside(kernels: list[str], tmp_path: Path):
    machines = [machine(tmp_path, kernel, turns=25) for kernel in kernels]
    for process in machines:
        assert process.wait(60) == 0, process.communicate()[1]
        process.communicate()
    assert (tmp_path / "count").read_text() == "75"
    assert {file.name for file in tmp_path.iterdir()} == {"count", "key.lock"}


def test_a_killed_holder_of_this_machine_makes_nobody_wait(tmp_path: Path):
    kernel = leases.this_kernel()
    for works in (True, False):
        first = machine(tmp_path, kernel, works=works)
        assert line(first) == "holds"
        first.kill()
        first.communicate()
        began = time.monotonic()
        with holding(tmp_path / "key.lock", "it", wait=False):
            assert time.monotonic() - began < 0.5
    assert [file.name for file in tmp_path.iterdir()] == ["key.lock"]


def test_a_holder_elsewhere_is_waited_for_while_it_lives_and_followed_when_it_died(
    tmp_path: Path, quick, caplog
):
    first = machine(tmp_path, "elsewhere", works=True)
    assert line(first) == "holds"
    path = tmp_path / "key.lock"
    locks._WORKING.clear()
    time.sleep(0.3)
    assert Place(tmp_path / "key.lease", path).beats() and is_held(path)
    first.kill()
    first.communicate()
    began = time.monotonic()
    with holding(path, "it is being made") as lease:
        assert 0.5 < time.monotonic() - began < 5
        lease.check()
    assert "it is being made on another machine, or was until it died" in caplog.text


def test_a_stopped_holder_that_wakes_up_writes_nothing(tmp_path: Path, quick, without_locks):
    first = machine(tmp_path, "elsewhere")
    assert line(first) == "holds"
    os.kill(first.pid, signal.SIGSTOP)
    with holding(tmp_path / "key.lock", "it") as lease:
        os.kill(first.pid, signal.SIGCONT)
        out, error = first.communicate("\n")
        assert "wrote" not in out and "taken over by another machine" in error
        lease.check()  # and has let what is ours alone
    assert {file.name for file in tmp_path.iterdir()} == {"key.lock"}


def test_who_is_taken_over_is_told(tmp_path: Path):
    place = Place(tmp_path / "key.lease", tmp_path / "key.lock", "other")
    with pytest.raises(ReidpipeError, match="found key taken over by another machine"):  # noqa: SIM117
        with holding(tmp_path / "key.lock", "it") as lease:
            (tmp_path / f"key.lease-{lease.who.token}").write_text("{}")
            assert not lease.place.touch(lease.who)
            lease.check()
    assert place.holder() is not None  # what the other holds stays


def test_two_that_take_over_at_once_are_one(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(leases, "STALE", 0.0)
    clock = tmp_path / "key.lock"
    places = [Place(tmp_path / "key.lease", clock, kernel) for kernel in "abc"]
    first = places[0].take(alone=False)
    assert first is not None
    # b has judged a dead and is slow to say so; c is faster.
    held = places[1].holder()
    third = places[2].take(alone=False)
    assert third is not None and held is not None
    assert places[1]._append(places[1]._after(held[1].token)) is None
    assert places[2].is_ours(third) and not places[0].is_ours(first)
    places[0].give_back(first)
    assert places[2].is_ours(third)
    places[2].give_back(third)
    assert not list(tmp_path.glob("*lease*"))


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00", '{"kernel": 1}'])
def test_a_lease_that_cannot_be_read_goes_stale(text: str, tmp_path: Path, quick, without_locks):
    (tmp_path / "key.lease").write_text(text)
    began = time.monotonic()
    with holding(tmp_path / "key.lock", "it"):
        assert time.monotonic() - began > 0.5


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_once(number: int, tmp_path: Path, monkeypatch, caplog):
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(locks, "_WORKING", {})
    for _ in range(2):
        with holding(tmp_path / "key.lock", "it"):
            assert is_held(tmp_path / "key.lock")
            with pytest.raises(Held), holding(tmp_path / "key.lock", "it", wait=False):
                pass
        assert not is_held(tmp_path / "key.lock")
    (told,) = caplog.messages
    assert "has no locks" in told


def test_a_process_id_that_is_used_again_is_another_process():
    who = Who.here("k")
    assert not who.is_gone("k") and not who.is_gone("other")
    assert Who("k", who.pid, "1", "t").is_gone("k")


# argv: folder, how many changes of files it makes before it dies while it gives back.
DIES = """
import os, sys
from pathlib import Path
from pipeline.artifacts import leases, locks
left = int(sys.argv[2])
def counted(change):
    def counting(*args, **options):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return change(*args, **options)
    return counting
with locks.holding(Path(sys.argv[1]) / "key.lock", "it"):
    leases._write, Path.unlink = counted(leases._write), counted(Path.unlink)
"""


@pytest.mark.parametrize("changes", [0, 1, 2])
@pytest.mark.parametrize("taken_again", [False, True])
def test_who_dies_while_it_gives_back_leaves_nothing_for_good(
    changes: int, taken_again: bool, tmp_path: Path
):
    path = tmp_path / "key.lock"
    words = [sys.executable, "-c", DIES, str(tmp_path), str(changes)]
    assert subprocess.run(words, timeout=60).returncode == 9
    assert len(list(tmp_path.glob("key.lease*"))) == (1, 2, 1)[changes]
    drop_dead_leases(tmp_path, {"another"})
    assert list(tmp_path.glob("key.lease*"))
    if taken_again:
        with holding(path, "it"):
            pass
    else:
        drop_dead_leases(tmp_path, {"key"})
    assert [file.name for file in tmp_path.iterdir()] == ["key.lock"]
    assert not is_held(path)


def test_leases_of_the_living_and_of_other_machines_stay(tmp_path: Path):
    with holding(tmp_path / "key.lock", "it") as lease:
        drop_dead_leases(tmp_path)
        lease.check()
    elsewhere = Place(tmp_path / "far.lease", tmp_path / "far.lock", "another machine")
    assert elsewhere.take(alone=False) is not None
    began = time.monotonic()
    drop_dead_leases(tmp_path)
    assert time.monotonic() - began < 1 and (tmp_path / "far.lease").exists()
    drop_dead_leases(tmp_path / "nowhere")
