"""``python -m tests.chaos``, which ``make chaos`` runs: kills, crowds, full disks and signals, and
a table of what came of them. Ends with 1 where anything came out otherwise than in peace.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

KINDS = ("killed", "crowd", "full", "limit", "worker", "stopped", "fresh", "beside")
CROWDS: tuple[tuple[str | None, tuple[str, ...], int], ...] = (
    ("prepare", ("train",) * 2, 1),
    (None, ("run",) * 2, 1),
    ("prepare", ("parse",) * 2, 0),
    ("eval", ("embed",) * 2, 1),
    ("prepare", ("train", "train", "parse", "parse", "classify", "classify", "prepare", "run"), 0),
    ("prepare", ("train", "train", "parse", "parse", "classify", "classify", "run", "run"), 3),
    (None, ("prepare", "prepare", "run", "run", "parse", "parse", "run", "parse"), 3),
)
FULL = ("prepare", "parse", "train", "run", "eval", "embed", "search", "classify", "report")


@click.command()
@click.option("--kills", default=200, show_default=True, help="SIGKILLs of running commands.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Of these kinds alone.")
@click.option("--command", "names", multiple=True, help="Of these commands alone.")
@click.option("--chain", type=int, help="This one chain of kills or stops again.")
@click.option("--signals", "stops", default=40, show_default=True, help="SIGINT, SIGTERM, SIGHUP.")
@click.option("--crowds", default=len(CROWDS), show_default=True, help="How many of them.")
@click.option("--points", default=3, show_default=True, help="Full disks per command.")
@click.option("--workers", default=6, show_default=True, help="Worker processes killed.")
@click.option("--processes", default=20, show_default=True, help="Fresh processes struck.")
@click.option("--beside", default=10, show_default=True, help="Commands with two jobs struck.")
@click.option("--log", type=click.Path(path_type=Path), help="A JSON line for each as it ends.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
def main(**given: Any) -> None:
    """Strike commands at random moments; what they leave is compared with what peace leaves."""
    from tests.chaos import commands
    from tests.chaos.ground import Ground

    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    began = time.monotonic()
    # Before anything is imported that may start a thread.
    mounting = _mounting()
    try:
        commands.load()
        told = _all(Ground(folder), mounting, **given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = _figures(told, mounting) | {"seconds": round(time.monotonic() - began)}
    click.echo(json.dumps(figures, indent=2) if given["as_json"] else _table(figures))
    raise SystemExit(bool(figures["faults"]))


def _mounting() -> bool:
    from tests.chaos.full import may_mount

    try:
        return may_mount()
    except OSError:
        return False


def _all(ground: Any, mounting: bool, **given: Any) -> list[dict[str, Any]]:
    from tests.chaos import crowd, fresh, full, killed

    told: list[dict[str, Any]] = []
    only, seed, names = given["only"] or KINDS, given["seed"], given["names"] or None

    def tell(kind: str, value: dict[str, Any]) -> None:
        told.append({"kind": kind, **value})
        for fault in value["faults"]:
            click.echo(f"FAULT {kind} {value}: {fault}", err=True)
        if given["log"]:
            with given["log"].open("a") as file:
                file.write(json.dumps(told[-1]) + "\n")

    def chains(kind: str, signals: tuple[int, ...], count: int) -> None:
        done, number = 0, given["chain"] or 0
        while done < count:
            chain = killed.chain(ground, seed, number, signals=signals, names=names)
            tell(kind, asdict(chain))
            done += len(chain.strikes)
            number += 1
            if given["chain"] is not None:
                return

    if "killed" in only:
        chains("killed", (signal.SIGKILL,), given["kills"])
    if "stopped" in only:
        chains("stopped", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP), given["stops"])
    draw = random.Random(f"{seed}/others")
    if "crowd" in only:
        for base, members, kills in CROWDS[: given["crowds"]]:
            tell("crowd", asdict(crowd.crowd(ground, base, members, kills=kills, draw=draw)))
    for name in names or FULL:
        for number in range(given["points"] if "full" in only and mounting else 0):
            share = (number + draw.random()) / given["points"]
            tell("full", asdict(full.disk_full(ground, name, share)))
        for _ in range(given["points"] if "limit" in only else 0):
            size = full.sizes(ground, name, draw)
            tell("limit", asdict(full.files_limited(ground, name, size)))
    for _ in range(given["workers"] if "worker" in only else 0):
        hit, faults = fresh.worker_killed(ground, draw)
        tell("worker", {"killed": hit, "faults": faults})
    for _ in range(given["processes"] if "fresh" in only else 0):
        tell("fresh", asdict(fresh.fresh(ground, draw)))
    for _ in range(given["beside"] if "beside" in only else 0):
        tell("beside", asdict(fresh.side_by_side(ground, draw)))
    return told


def _figures(told: list[dict[str, Any]], mounting: bool) -> dict[str, Any]:
    of = {kind: [one for one in told if one["kind"] == kind] for kind in KINDS}
    struck = {
        kind: {
            "strikes": sum(len(one["strikes"]) for one in of[kind]),
            "at work": sum(step is not None for one in of[kind] for step in one["at_work"]),
            "by step": dict(
                Counter(step for one in of[kind] for step in one["at_work"] if step).most_common()
            ),
            "by command": dict(
                Counter(one["command"] for one in of[kind] for _ in one["strikes"]).most_common()
            ),
        }
        for kind in ("killed", "stopped")
    }
    same: Counter[str] = Counter()
    alike: Counter[str] = Counter()
    for one in of["killed"] + of["stopped"]:
        same.update(one["same"])
        alike.update(one["alike"])
    return {
        **struck,
        "crowds": len(of["crowd"]),
        "killed in crowds": sum(one["killed"] for one in of["crowd"]),
        "full disks": len(of["full"]),
        "full disks that stopped it": sum(one["stopped"] for one in of["full"]),
        "may mount": mounting,
        "limits": len(of["limit"]),
        "limits that stopped it": sum(one["stopped"] for one in of["limit"]),
        "workers killed": sum(one["killed"] for one in of["worker"]),
        "fresh processes": dict(Counter(one["signal"] for one in of["fresh"])),
        "steps side by side": dict(Counter(one["signal"] for one in of["beside"])),
        "in the first second": sum(one["after"] < 1 for one in of["fresh"]),
        "equal bytes": dict(sorted(same.items())),
        "equal but for the clock": dict(sorted(alike.items())),
        "faults": [fault for one in told for fault in one["faults"]],
    }


def _table(figures: dict[str, Any]) -> str:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += [f"{name}"] + [f"  {key:30} {item}" for key, item in value.items()]
        elif isinstance(value, list):
            lines.append(f"{name:32} {len(value)}")
        else:
            lines.append(f"{name:32} {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
