"""Machines, paths and streams as they should not be: one line, no traceback, no waiting."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.artifacts.store import Workspace
from pipeline.terminal.machine import of_the_machine
from tests.cli.conftest import Console
from tests.conftest import PROJECT

LONG = {"a path": "a/" * 2500, "a name": "b" * 300}


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return tmp_path / "loop"


def typed(place: str) -> list[tuple[str, ...]]:
    """Every place where a path may be typed."""
    return [
        ("prepare", "folder", "--root", place),
        ("prepare", "market1501", "--archive", place),
        ("prepare", place),
        ("train", place),
        ("train", f"{place}.yaml"),
        ("train", "baseline-tiny", "--pretrained", place),
        ("train", "--continue", place),
        ("parse", "--model", "schp", "--weights", place),
        ("parse", "--model", f"hf:{place}"),
        ("embed", "baseline-tiny", place),
        ("embed", "baseline-tiny", ".", "--out", place),
        ("export", "baseline-tiny", "--out", place),
        ("figure", "curves", "baseline-tiny", "--out", place),
        ("search", "baseline-tiny", place, place),
        ("score", "baseline-tiny", place, place),
        ("classify", "zero-shot", "--dataset", place),
        ("import", place, "--from", "torchreid"),
        ("report", place),
    ]


@pytest.mark.parametrize("kind", ["a user", "a loop", "below a loop", "null", *LONG])
def test_paths_that_cannot_be_are_one_line(trained: Console, loop: Path, kind: str):
    here = {"a user": "~nouser/x", "a loop": str(loop), "below a loop": f"{loop}/a"}
    place = (here | LONG | {"null": "x\0y"})[kind]
    for words in typed(place):
        result = trained(*words, code=2)
        lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1 and len(lines[0]) <= 500, (words, result.stderr)
        assert "Traceback" not in result.output and "\0" not in result.output


@pytest.mark.parametrize("kind", ["loop", "~nouser/x", "x" * 300, "", "\0"])
def test_workspaces_that_cannot_be_are_one_line(loop: Path, kind: str):
    line = Console(loop if kind == "loop" else kind).mistake("prepare")  # type: ignore[arg-type]
    assert "--workspace" in line


@pytest.mark.parametrize("kind", ["device", "full", "pipe", "socket", "proc"])
def test_out_is_no_place_of_the_system(trained: Console, tmp_path: Path, kind: str):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.safetensors"))
    for name, device in (("device", "/dev/null"), ("full", "/dev/full")):
        (tmp_path / f"{name}.safetensors").symlink_to(device)
    place = "/proc/x.safetensors" if kind == "proc" else tmp_path / f"{kind}.safetensors"
    line = trained.mistake("export", "baseline-tiny", "--format", "safetensors", "--out", place)
    assert "--out" in line
    assert not Path("/dev/null").is_file() and not Path("/dev/full").is_file()


def test_what_is_no_plain_file_is_no_image(console: Console, tmp_path: Path):
    root = tmp_path / "own"
    for person in ("a", "b"):
        (root / person).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (4, 8)).save(root / person / f"{number}.jpg")
    os.mkfifo(root / "a" / "pipe.jpg")
    os.mkfifo(root / "index.csv")  # for which one would wait for ever
    (root / "a" / "zero.jpg").symlink_to("/dev/zero")
    (root / "b" / "loop.jpg").symlink_to("loop.jpg")
    (root / "b" / "back").symlink_to(root)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "b" / "socket.jpg"))
    said = console.json("prepare", "folder", "--root", root, "--size", "16x8")
    assert "4" in str(said)
    index = next((console.root / "artifacts" / "index").glob("*/index.csv")).read_text()
    assert index.count("\n") == 1 + 4


@pytest.mark.parametrize("where", ["stat", "scandir"])
def test_a_root_that_vanishes_or_closes_meanwhile(
    console: Console, people: Path, monkeypatch, where: str
):
    number = errno.ENOENT if where == "stat" else errno.EACCES
    before = os.scandir

    def refused(place: Any = ".") -> Any:
        if str(people) in str(place) and "train" in str(place):
            raise OSError(number, os.strerror(number), str(place))
        return before(place)

    monkeypatch.setattr(os, "scandir", refused)
    line = console.mistake("prepare", "folder", "--root", people)
    assert str(people) in line and os.strerror(number) in line


HUGE = str(10**30)


@pytest.mark.parametrize("number", [f"-{HUGE}", "1e400", "nan", "9" * 5000])
@pytest.mark.parametrize(
    "words",
    [
        ("train", "baseline-tiny", "--epochs"),
        ("prepare", "--size"),
        ("prepare", "folder", "--holdout"),
        ("train", "baseline-tiny", "--batch"),
        ("search", "baseline-tiny", ".", ".", "--top"),
        ("eval", "--device"),
    ],
)
def test_numbers_that_cannot_be_are_one_line(trained: Console, words: tuple[str, ...], number: str):
    result = trained(*words, number, code=2)
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.output


def test_a_huge_input_is_no_overflow(trained: Console):
    for size in (f"[{HUGE},16]", f"[16,{2**40}]"):
        line = trained.mistake("train", "baseline-tiny", "--set", f"input.size={size}")
        assert "input.size" in line or "size" in line


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ELOOP, "x", "/a"), "cannot follow"),
        (OSError(errno.ENAMETOOLONG, "x", "/a"), "cannot follow"),
        (FileNotFoundError(errno.ENOENT, "x", "/a"), "/a gone"),
        (FileNotFoundError(errno.ENOENT, "x"), "working folder gone"),
        (OSError(errno.EIO, "x", "/a"), "failing"),
        (RuntimeError("Could not determine home directory."), "home folder"),
        (RuntimeError("Symlink loop from '/a'"), "/a"),
        (ValueError("embedded null byte"), "null character"),
        (OverflowError("Python int too large to convert to C long"), "too large"),
        (MemoryError(), "too little memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory"),
    ],
)
def test_what_the_machine_refuses_has_words(error: Exception, told: str):
    line = of_the_machine(error)
    assert line is not None and told in line


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), KeyError("x"), OSError("x")])
def test_other_errors_keep_their_traceback(error: Exception):
    assert of_the_machine(error) is None


def process(words: str, *, shell: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """``reidpipe words`` in a shell that closes streams, say, with ``env`` alone around it."""
    line = f"{shell.replace('REIDPIPE', f'{sys.executable} -m reid_train {words}')}"
    line = line or f"{sys.executable} -m reid_train {words}"
    return subprocess.run(
        ["sh", "-c", line],
        env={"PYTHONPATH": str(PROJECT), "PATH": os.environ["PATH"], **env},
        capture_output=True, text=True, timeout=60, errors="replace",
    )  # fmt: skip


@pytest.mark.parametrize(
    "shell",
    [
        "REIDPIPE >&- 2>&- <&-",
        "REIDPIPE 2>/dev/full",
        "mkdir {tmp}/gone; cd {tmp}/gone; rmdir {tmp}/gone; REIDPIPE",
    ],
)
def test_streams_and_folders_that_are_gone(tmp_path: Path, shell: str):
    done = process("prepare nonsense", shell=shell.format(tmp=tmp_path), HOME=str(tmp_path))
    # 120: Python's own, for what it could not write at the end.
    assert done.returncode in (2, 120) and "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "env"),
    [
        ("prepare é日", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("prepare é日", {"PYTHONIOENCODING": "ascii", "TMPDIR": "/nowhere", "COLUMNS": "-5"}),
        ("prepare market1501", {"REIDPIPE_DATA": "~nouser/x"}),
        ("status", {"RANK": "x"}),
    ],
)
def test_variables_with_rubbish(tmp_path: Path, words: str, env: dict[str, str]):
    done = process(f"--workspace {tmp_path}/w {words}", **env)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be played by root alone")
def test_a_user_that_the_machine_does_not_know(tmp_path: Path):
    capable = "+dac_override,+dac_read_search"  # who may read everything, and has no home
    shell = (
        f"setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps={capable} "
        f"--ambient-caps={capable} REIDPIPE"
    )
    tmp_path.chmod(0o777)
    if process("", shell=f"setpriv --reuid 54321 --ambient-caps={capable} true").returncode == 127:
        pytest.skip("no setpriv here")
    done = process(f"--workspace {tmp_path}/w prepare folder --root '~/x'", shell=shell)
    assert done.returncode == 2 and "found no home folder for --root ~/x" in done.stderr
    assert process(f"--workspace {tmp_path}/w status", shell=shell).returncode == 0


def test_the_workspace_of_python_is_told_too(loop: Path):
    with pytest.raises(RuntimeError) as raised:
        Workspace(loop)
    assert of_the_machine(raised.value) is not None
