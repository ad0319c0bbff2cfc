"""Disks that are full: a small tmpfs in a mount namespace of our own, and a limit on every file."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.chaos import children
from tests.chaos.children import Story
from tests.chaos.equality import TEMPORARY, files
from tests.chaos.ground import Ground, alone

_PAGE = 4096
_NEWNS, _NEWUSER = 0x00020000, 0x10000000


@dataclass
class Point:
    """A command with so much room. stopped: whether that was too little."""

    command: str
    where: str
    room: int
    stopped: bool = False
    faults: list[str] = field(default_factory=list)


def may_mount() -> bool:
    """Leave for a mount namespace of our own; whether a tmpfs can be mounted there. Once, and
    before this process has threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEWNS if user == 0 else _NEWNS | _NEWUSER) != 0:
        return False
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    return _mount("--make-rprivate", "/")


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A tmpfs at ``place``, as large as memory allows until ``resize``."""
    place.mkdir(parents=True, exist_ok=True)
    if not _mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", str(place)):
        raise RuntimeError(f"no tmpfs could be mounted at {place}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def resize(place: Path, size: int) -> None:
    """``size`` bytes in all."""
    if not _mount("-o", f"remount,size={size}", str(place)):
        raise RuntimeError(f"the tmpfs at {place} cannot be {size} bytes")


def disk_full(ground: Ground, name: str, share: float) -> Point:
    """The command on a disk with ``share`` of the room it needs, then with more than enough."""
    command = ground.commands[name]
    kept = ground.left_by(name)
    before = ground.left_by(command.after) if command.after else None
    grown = _pages(kept) - (_pages(before) if before else 0)
    point = Point(name, "disk", int(share * grown))
    shutil.rmtree(ground.place, ignore_errors=True)
    with small_disk(ground.place):
        if before is not None:
            shutil.copytree(before, ground.place, symlinks=True, dirs_exist_ok=True)
        state = os.statvfs(ground.place)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        resize(ground.place, -(-(used + point.room) // _PAGE) * _PAGE)
        _look(ground, point, ground.run(command))
        resize(ground.place, 1 << 30)
        _finish(ground, point)
    return point


def files_limited(ground: Ground, name: str, size: int) -> Point:
    """The command where no file may grow beyond ``size`` bytes, then without a limit."""
    command = ground.commands[name]
    ground.left_by(name)
    ground.lay(command)
    point = Point(name, "file", size)
    _look(ground, point, ground.run(command, prepare=partial(_limited, size)))
    _finish(ground, point)
    return point


def sizes(ground: Ground, name: str, draw: random.Random) -> int:
    """A limit that stops some file which the command writes."""
    command = ground.commands[name]
    new = files(ground.left_by(name))
    if command.after:
        new -= files(ground.left_by(command.after))
    found = sorted((ground.left_by(name) / file).stat().st_size for file in new)
    # A child's own output is a file too.
    return max(2000, int(draw.choice(found) * draw.uniform(0.1, 0.95)))


def _limited(size: int) -> None:
    alone()
    children.limited(size)


def _look(ground: Ground, point: Point, story: Story) -> None:
    point.stopped = story.code != 0
    lines = [line for line in story.stderr.splitlines() if line.startswith("Error: ")]
    if point.stopped and (story.code != 2 or len(lines) != 1 or not _told(lines[0])):
        point.faults.append(f"exit {story.code}: {story.stderr[-2500:]}")
    if not story.silent:
        point.faults.append(f"a traceback: {story.stderr[-2500:]}")
    point.faults += [f"left a process: {pid}" for pid in story.left]
    point.faults += [
        f"a temporary file: {name}"
        for name in files(ground.place)
        if TEMPORARY.fullmatch(Path(name).name)
    ]
    point.faults += ground.believed()


def _told(line: str) -> bool:
    return "disk full" in line or "too large for its disk" in line


def _finish(ground: Ground, point: Point) -> None:
    story = ground.run(ground.commands[point.command])
    if story.code or not story.silent:
        point.faults.append(f"with room again: exit {story.code}: {story.stderr[-1500:]}")
    point.faults += ground.compared(point.command).faults


def _pages(place: Path) -> int:
    """Bytes of a tree on a tmpfs."""
    return sum(-(-p.stat().st_size // _PAGE) * _PAGE for p in place.rglob("*") if p.is_file())
