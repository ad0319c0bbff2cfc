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
FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


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


def cached(name: str, places: Sequence[tuple[Path, Path]], turns: int) -> list[float]:
    """Median CPU seconds beyond the interpreter of a command that finds all made, of each checkout
    (its folder, a workspace); all in turn.
    """
    empty: list[float] = []
    found: list[list[float]] = [[] for _ in places]
    for _ in range(turns):
        empty.append(spent(["-c", "pass"]).cpu)
        for (folder, workspace), taken in zip(places, found, strict=True):
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
                "demo in an empty workspace, all its processes",
                first.cpu,
                "CPU s",
                f"and {first.wall:.0f} s on the clock",
                "",
                "half of the CPU seconds on the clock, were two cores never idle",
                None,
            )
        for name in CACHED:
            (seconds,) = cached(name, [(ROOT, place)], turns)
            yield Row(
                f"cached {name}", seconds, "CPU s", "beyond the interpreter", f"{GOAL}", "", None
            )


@click.command()
@click.option("--workspace", type=FOLDER, help="Where a demo has been made.")
@click.option("--against", type=FOLDER, help="Another checkout of this project, measured in turn.")
@click.option("--turns", default=TURNS, show_default=True)
def main(workspace: Path | None, against: Path | None, turns: int) -> None:
    """Print CPU seconds of the demo, where it had to be made, and of cached commands."""
    folders = [ROOT, *([against.resolve()] if against else [])]
    with contextlib.ExitStack() as stack:
        places = []
        for folder in folders:
            place, first = stack.enter_context(made(workspace, folder))
            places.append((folder, place))
            if first is not None:
                click.echo(f"demo in {folder}: {first.cpu:.0f} CPU s, {first.wall:.0f} s")
        for name in CACHED:
            told = " / ".join(f"{seconds:.2f}" for seconds in cached(name, places, turns))
            click.echo(f"cached {name}: {told} CPU s beyond the interpreter")


if __name__ == "__main__":
    main()
