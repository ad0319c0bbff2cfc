"""What commands cost that have nothing to do, and the demo: CPU seconds of all their processes.

    python -m benchmarks.starts                     in a workspace of its own, about two CPU minutes
    python -m benchmarks.starts --workspace DIR     in one where a demo has been made
    python -m benchmarks.starts --against FOLDER    in turn with another checkout of this project

Beyond the interpreter: less what ``python -c pass`` takes, median of several turns.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from benchmarks.row import Row

ROOT = Path(__file__).resolve().parents[1]
CACHED = ("demo", "eval")
TURNS = 7
GOAL = 0.4
_SET_CHILD_SUBREAPER = 36


class Spent(NamedTuple):
    """CPU seconds of a command and of all processes it has started, and seconds of the clock."""

    cpu: float
    wall: float


def spent(words: Sequence[str], folder: Path = ROOT) -> Spent:
    """Run a command of ``folder``'s Python and wait for all that it leaves behind."""
    # Workers are forked from a server that nobody waits for: here they come back to this process.
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, began = _children(), time.monotonic()
    process = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wall = time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {process.stderr[-2000:]}")
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return Spent(_children() - before, wall)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(workspace: Path, *words: str) -> list[str]:
    """``reidpipe WORDS`` in a workspace, from the checkout in whose folder it is started."""
    return ["-m", "reid_train", "--workspace", str(workspace), *words]


def cached(workspace: Path, name: str, folders: Sequence[Path], turns: int) -> list[float]:
    """Median CPU seconds beyond the interpreter of a command that is made already, per checkout;
    all in turn.
    """
    empty: list[float] = []
    found: list[list[float]] = [[] for _ in folders]
    for _ in range(turns):
        empty.append(spent(["-c", "pass"]).cpu)
        for folder, taken in zip(folders, found, strict=True):
            taken.append(spent(command(workspace, name), folder).cpu)
    return [statistics.median(taken) - statistics.median(empty) for taken in found]


@contextlib.contextmanager
def made(workspace: Path | None, folder: Path = ROOT) -> Iterator[tuple[Path, Spent | None]]:
    """A workspace with the demo in it, and what making it took where it was not there."""
    if workspace is not None:
        yield workspace, None
        return
    with tempfile.TemporaryDirectory() as place:
        yield Path(place), spent(command(Path(place), "demo"), folder)


def rows(workspace: Path | None = None, turns: int = TURNS) -> Iterable[Row]:
    """The demo in an empty workspace, unless one is given, and the commands that find it made."""
    with made(workspace) as (place, first):
        if first is not None:
            yield Row(
                "demo in an empty workspace, all processes",
                first.cpu,
                "CPU s",
                f"{first.wall:.0f} s on the clock",
                "",
                "two cores never idle: half of its CPU seconds on the clock",
                None,
            )
        for name in CACHED:
            (seconds,) = cached(place, name, [ROOT], turns)
            yield Row(
                f"cached {name}", seconds, "CPU s", "beyond the interpreter", f"{GOAL}", "", None
            )


@click.command()
@click.option("--workspace", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--against", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--turns", default=TURNS, show_default=True)
def main(workspace: Path | None, against: Path | None, turns: int) -> None:
    """Print CPU seconds of cached commands, and of the demo where none was given."""
    if against is None:
        for row in rows(workspace, turns):
            click.echo(f"{row.work}: {row.measured:.2f} {row.unit} ({row.against})")
        return
    folders = [ROOT, against.resolve()]
    with contextlib.ExitStack() as stack:
        for name in CACHED:
            found = []
            for folder in folders:
                place, first = stack.enter_context(made(workspace, folder))
                found.append((place, first))
            told = [cached(place, name, [folder], turns)[0]
                    for folder, (place, _) in zip(folders, found, strict=True)]  # fmt: skip
            click.echo(f"cached {name}: {told[0]:.2f} CPU s, there {told[1]:.2f}")


if __name__ == "__main__":
    main()
