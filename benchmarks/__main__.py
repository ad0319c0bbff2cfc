"""Every row of the table of speeds in its small form, printed as it ends: ``make bench``.

    python -m benchmarks
    python -m benchmarks --only evaluation --only clustering
    python -m benchmarks --peers ~/peers        # folders of other people's checkouts

A row is what a file of this folder yields from its ``rows()``; one that takes ``peers`` is given
the folder of ``--peers``, None without, and then compares with a plain implementation of the same
algorithm. One file that fails does not keep the others from being measured. Full sizes are the
files' own commands (docs/benchmarks.md).
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from benchmarks.row import Row, line

HERE = Path(__file__).parent


@click.command()
@click.option("--only", multiple=True, metavar="WORD", help="Files with this in their name.")
@click.option(
    "--peers",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of other people's checkouts.",
)
def main(only: tuple[str, ...], peers: Path | None) -> None:
    """Print measured, goal, limit and memory of every row; exit 1 where a file failed."""
    names = chosen(only)
    if not names:
        raise click.UsageError(
            f"found no benchmark with {', '.join(only)} in its name; expected one of "
            f"{', '.join(chosen(()))}"
        )
    failed = []
    for name in names:
        try:
            for row in made(importlib.import_module(f"benchmarks.{name}"), peers):
                click.echo(line(row))
        except Exception:
            failed.append(name)
            click.echo(traceback.format_exc(), err=True)
    if failed:
        click.echo(f"failed: {', '.join(failed)}", err=True)
        sys.exit(1)


def chosen(only: tuple[str, ...]) -> list[str]:
    """Names of the benchmarks that have one of some words in their name; of all without words."""
    names = sorted({path.stem for path in HERE.glob("*.py")} - {"__main__", "row", "peers"})
    return [name for name in names if not only or any(word in name for word in only)]


def made(module: object, peers: Path | None) -> Iterable[Row]:
    """The rows of a file, none where it makes none."""
    rows: Callable[..., Iterable[Row]] | None = getattr(module, "rows", None)
    if rows is None:
        return ()
    return rows(peers=peers) if "peers" in inspect.signature(rows).parameters else rows()


if __name__ == "__main__":
    main()
