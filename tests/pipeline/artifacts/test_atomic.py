"""Files that are whole or absent: on disks that take no more, and after kills."""

from __future__ import annotations

import csv
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts import atomic
from pipeline.artifacts.atomic import replacing, write_csv, write_text
from pipeline.artifacts.mark import drop_temporary
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.sets import LIP
from pipeline.labels.writing import MapWriter
from tests.conftest import PROJECT

LIMIT = 4096


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What is raised where nobody can catch it, which Python prints."""
    found: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: found.append(what.exc_value))
    return found


@contextmanager
def little_room() -> Iterator[None]:
    """No file grows beyond LIMIT. Not as a fixture: pytest's own log may be such a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def by_numpy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(9999))


def as_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, a=np.random.default_rng(0).random(9999), b=np.zeros(9))


def by_pillow(path: Path) -> None:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)
    Image.fromarray(noise).save(path, "PNG")


def by_safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(9999)}, path)


def by_torch(path: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(9999)}, path)


@pytest.mark.parametrize("write", [by_numpy, as_archive, by_pillow, by_safetensors, by_torch])
def test_a_disk_that_takes_no_more_has_its_number(
    tmp_path: Path, unseen: list[BaseException], write: Callable[[Path], None]
):
    path = tmp_path / "x"
    with little_room(), pytest.raises(OSError) as raised, replacing(path) as temporary:
        write(temporary)
    assert raised.value.errno == errno.EFBIG
    assert unseen == [] and list(tmp_path.iterdir()) == []


def test_lines_of_a_table_end_where_they_were_ended(tmp_path: Path):
    rows = [["two\rlines", "a,b"], ["two\nlines", 'say "a"'], [None, 0.5]]
    write_csv(tmp_path / "x.csv", rows)
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [*rows[:2], ["", "0.5"]]
    assert (tmp_path / "x.csv").read_bytes().endswith(b"\n,0.5\n")


def test_other_failures_stay_what_they_are(tmp_path: Path):
    with pytest.raises(RuntimeError, match="mine"), replacing(tmp_path / "x"):
        raise RuntimeError("mine")


def test_maps_on_a_disk_that_takes_no_more(tmp_path: Path, unseen: list[BaseException]):
    writer = MapWriter(tmp_path, LIP, size=(64, 32))
    noise = np.random.default_rng(0)
    for number in range(16):  # a shard is written at the end
        label = noise.integers(0, 20, (64, 32), np.uint8)
        writer.add(
            f"{number}",
            label,
            noise.random((64, 32)),
            source_size=(64, 32),
            source_digest="00" * 32,
        )
    with little_room(), pytest.raises(OSError) as raised:
        writer.flush()
    assert raised.value.errno == errno.EFBIG
    assert unseen == [] and not list(tmp_path.glob("*.h5*")) + list(tmp_path.glob(".maps*"))
    writer.flush()
    assert len(LabelMapReader(tmp_path)) == 16


def test_what_a_killed_process_left_of_a_file_goes(tmp_path: Path):
    """Where no step cleans a folder of its own: runs, reports, what --out names."""
    path = tmp_path / "run.json"
    program = (
        "import os, sys, pathlib; from pipeline.artifacts.atomic import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], cwd=PROJECT, check=False)
    assert ended.returncode == -9
    (left,) = tmp_path.iterdir()
    ours = left.with_name(f".run.json.tmp-{os.getpid()}-{atomic._machine()}")
    theirs = left.with_name(f"{left.name[:-8]}00000000")  # on another machine
    other = left.with_name(left.name.replace("run.json", "other.json"))
    for file in (ours, theirs, other):
        file.touch()
    with replacing(path) as temporary:  # as another thread of this process would
        assert temporary == ours
        temporary.write_text("x")
    assert {file.name for file in tmp_path.iterdir()} == {"run.json", theirs.name, other.name}
    write_text(tmp_path / "other.json", "y")
    assert not other.exists()
    drop_temporary(tmp_path)  # of an artifact, whose lock is held: whoever wrote it
    assert {file.name for file in tmp_path.iterdir()} == {"run.json", "other.json"}
