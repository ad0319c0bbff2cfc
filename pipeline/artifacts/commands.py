"""``reidpipe status`` and ``reidpipe cache``: what exists, what it weighs, what is damaged."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import asdict
from typing import Any

import click

from pipeline.artifacts import graph
from pipeline.artifacts.checked import changed_outside
from pipeline.artifacts.kinds import KINDS
from pipeline.artifacts.queue import WaitingStep, waiting_steps
from pipeline.artifacts.running import RunningStep, looks, running_steps
from pipeline.artifacts.runs import list_runs
from pipeline.artifacts.store import Artifact, Workspace
from pipeline.terminal.board import Board, bar, progress
from pipeline.terminal.board import rows as lines_of
from pipeline.terminal.commandline import CONTEXT, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.options import EVERY
from pipeline.terminal.tables import clock, format_table, human_bytes

# Of a queue, on one line.
SHOWN = 6


@click.command(context_settings=CONTEXT)
@click.option(
    "--watch",
    "every",
    type=EVERY,
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Tell what is being made and what waits, again every 2 seconds or as many as are typed, "
    "until that is nothing or Ctrl-C.",
)
@json_option
def status(terminal: Terminal, every: float | None) -> None:
    """What is being made now and what waits, by whichever command and on whichever machine; what
    the workspace holds: artifacts, unfinished work, runs, and what would be made to have a run's
    model again.

    \b
    Example: reidpipe status
             reidpipe status --watch
    """
    if every is not None:
        if terminal.as_json:
            raise ReidpipeError(
                "found --watch and --json, which prints one value; expected one of them; leave "
                "one out"
            )
        _follow(terminal, every)
        return
    artifacts = terminal.workspace.artifacts()
    rows = [_describe(artifact) for artifact in artifacts]
    whole = {row["key"] for row in rows if row["state"] == "complete"}
    runs = []
    for run in list_runs(terminal.workspace):
        there = run.model.key in whole  # as its mark, which was read, said
        missing = [] if there else graph.missing(terminal.workspace, [run.model])
        lacking = [step.name for step in missing]
        runs.append(
            {
                "run": run.name,
                "recipe": run.recipe,
                "dataset": run.dataset,
                "seed": run.seed,
                "state": f"would make {len(lacking)}" if lacking else "ready",
                "would_make": lacking,
            }
        )
    terminal.say(f"workspace {terminal.workspace.root}")
    running, waiting = running_steps(terminal.workspace), waiting_steps(terminal.workspace)
    at_work = {step.key for step in running}
    for row in rows:
        if row["key"] in at_work and row["state"] == "unfinished":
            row["state"] = "being made"
    _tell_work(terminal, running, waiting)
    if rows:
        terminal.say(format_table(rows, ["step", "key", "state", "seconds", "size"]))
    else:
        terminal.say("no artifacts yet: type reidpipe demo")
    if runs:
        terminal.say("")
        terminal.say(format_table(runs, ["run", "recipe", "dataset", "seed", "state"]))
    unfinished = [row for row in rows if row["state"] == "unfinished"]
    if unfinished:
        terminal.say(
            f"\n{len(unfinished)} unfinished: the command that began them continues them; "
            "reidpipe cache rm unfinished drops them"
        )
    terminal.result(
        {
            "workspace": str(terminal.workspace.root),
            "running": [asdict(step) for step in running],
            "waiting": [asdict(step) for step in waiting],
            "artifacts": rows,
            "runs": runs,
        }
    )


def _tell_work(terminal: Terminal, running: list[RunningStep], waiting: list[WaitingStep]) -> None:
    """The steps at work as a table, and the queue."""
    if running:
        rows = [
            {
                "running": step.step,
                "key": step.key[:8],
                "about": str(step.about),
                "progress": bar(step),
                "left": "-" if step.left is None else clock(step.left),
                "process": f"{step.pid} on {step.host}",
                "told": progress(step),
            }
            for step in running
        ]
        columns = ["running", "key", "about", "progress", "left", "process", "told"]
        terminal.say(format_table(rows, columns) + "\n")
    for line in _queue(waiting):
        terminal.say(f"{line}\n")


def _queue(waiting: list[WaitingStep]) -> list[str]:
    """A line of what waits; none where nothing does."""
    shown = [f"{step.step} {step.key[:8]} {step.about}".rstrip() for step in waiting]
    more = f", and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return [f"{len(shown)} wait: {', '.join(shown[:SHOWN])}{more}"] if shown else []


def _work(workspace: Workspace) -> list[str]:
    """A line for each step at work, and one for the queue."""
    running, waiting = running_steps(workspace), waiting_steps(workspace)
    return [*lines_of(running, socket.gethostname()), *_queue(waiting)]


def _follow(terminal: Terminal, every: float) -> None:
    """In place on a terminal; elsewhere a paragraph whenever something has changed."""
    moves = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    board = Board(sys.stdout) if moves else None
    before: list[str] = []
    try:
        for lines in looks(lambda: _work(terminal.workspace), every):
            # Between two steps what was there stays.
            if lines and board is not None:
                board.show(lines)
            elif lines and lines != before:
                terminal.say("\n".join([*lines, ""]))
            before = lines or before
    except KeyboardInterrupt:
        return  # what is watched goes on
    finally:
        if board is not None:
            board.close()
    terminal.say("nothing is being made, and nothing waits")


@click.group(context_settings=CONTEXT)
def cache() -> None:
    """Artifacts on disk: list, remove, verify.

    Example: reidpipe cache ls
    """


@cache.command("ls", context_settings=CONTEXT)
@json_option
def list_artifacts(terminal: Terminal) -> None:
    """List artifacts with their size.

    Example: reidpipe cache ls
    """
    rows = [_describe(artifact) for artifact in terminal.workspace.artifacts()]
    terminal.say(format_table(rows, ["step", "key", "state", "size", "about"]))
    total = sum(row["bytes"] for row in rows)
    terminal.say(f"{len(rows)} artifacts, {human_bytes(total)} in {terminal.workspace.root}")
    terminal.result(rows)


@cache.command("rm", context_settings=CONTEXT)
@click.argument("reference")
@json_option
def remove(terminal: Terminal, reference: str) -> None:
    """Remove artifacts: REFERENCE is the first digits of one's key, a step's name for all of that
    step, or 'unfinished'. What a process is making is left.

    Example: reidpipe cache rm maps
    """
    terminal.workspace.tidy(())
    removed = []
    for artifact in _meant(terminal.workspace, reference):
        if terminal.workspace.remove(artifact, unfinished=reference == "unfinished"):
            removed.append({"step": artifact.step, "key": artifact.key})
            terminal.say(f"removed {artifact.step} {artifact.key}")
        else:
            terminal.say(_left(artifact))
    terminal.result(removed)


def _meant(workspace: Workspace, reference: str) -> list[Artifact]:
    """What ``cache rm REFERENCE`` is about. Raises ReidpipeError for nothing, and for the first
    digits of several keys.
    """
    artifacts = workspace.artifacts()
    if reference == "unfinished":
        return [artifact for artifact in artifacts if not artifact.complete]
    chosen = workspace.find(reference)
    if not chosen:
        known = {artifact.step for artifact in artifacts} | {artifact.key for artifact in artifacts}
        raise ReidpipeError(
            f"found no artifact '{reference}'{nearest(reference, known)}; expected a step's "
            "name or at least 4 digits of a key; type reidpipe cache ls"
        )
    if len(chosen) > 1 and chosen[0].step != reference:
        names = ", ".join(f"{artifact.step} {artifact.key}" for artifact in chosen[:SHOWN])
        more = f", and {len(chosen) - SHOWN} more" if len(chosen) > SHOWN else ""
        raise ReidpipeError(
            f"found {len(chosen)} artifacts for '{reference}' ({names}{more}); expected one; type "
            "more of its key, or the name of a step for all of that step"
        )
    return chosen


def _left(artifact: Artifact) -> str:
    return f"left {artifact.step} {artifact.key}: another process is at work on it"


@cache.command("verify", context_settings=CONTEXT)
@click.option("--repair", is_flag=True, help="Take damaged files away so they are made again.")
@click.option(
    "--images/--no-images",
    default=True,
    show_default=True,
    help="Compare the images of datasets, too, with their index.",
)
@json_option
def verify(terminal: Terminal, repair: bool, images: bool) -> None:
    """Compare every file with the checksum recorded when it was made.

    Images of datasets are compared with their index: one that was replaced by another of the same
    size and time is found here. They are yours, and --repair leaves them.
    Exit code 1 when something is damaged. Example: reidpipe cache verify --repair
    """
    rows = []
    for artifact in terminal.workspace.artifacts():
        damaged = terminal.workspace.damage(artifact)
        for name in damaged:
            terminal.say(f"damaged: {artifact.step} {artifact.key} {name}")
            rows.append({"step": artifact.step, "key": artifact.key, "file": name})
        if damaged and repair and not terminal.workspace.repair(artifact, damaged):
            terminal.say(_left(artifact))
        if images and not damaged:
            rows += _changed_outside(terminal, artifact)
    cure = "taken away; repeat the command that made them" if repair else "cure: --repair"
    if ours := [row for row in rows if "image" not in row]:
        terminal.say(f"{len(ours)} damaged files, {cure}")
    if len(rows) > len(ours):
        terminal.say(
            f"{len(rows) - len(ours)} changed images, of the same size and time; put them back, or "
            "touch them and type prepare, which indexes anew"
        )
    if not rows:
        terminal.say("all files are as they were made")
    terminal.result({"damaged": rows, "repaired": repair})
    if rows:
        click.get_current_context().exit(1)


def _changed_outside(terminal: Terminal, artifact: Artifact) -> list[dict[str, Any]]:
    """Images that an index names and that are others now, told; none of an index of the past."""
    from pipeline.datasets.unchanged import of_the_past

    kind = KINDS.get(artifact.step)
    if kind is None or not kind.outside or not artifact.complete:
        return []
    if why := of_the_past(artifact.folder):
        terminal.say(f"not compared: images of {artifact.step} {artifact.key}: {why}")
        return []
    bar = terminal.execution().progress
    rows = []
    for error in changed_outside(artifact.folder, kind.outside, progress=bar):
        terminal.say(f"changed: {artifact.step} {artifact.key} {error.path}")
        rows.append(
            {"step": artifact.step, "key": artifact.key, "file": str(error.path), "image": True}
        )
    return rows


def _describe(artifact: Artifact) -> dict[str, Any]:
    size, mark = artifact.size(), artifact.mark()
    row: dict[str, Any] = {
        "step": artifact.step,
        "key": artifact.key,
        "state": "unfinished" if mark is None else "complete",
        "size": human_bytes(size),
        "bytes": size,
    }
    if mark is not None:
        row["seconds"] = mark["seconds"]
        row["about"] = _about(mark["params"])
    return row


def _about(params: dict) -> str:
    recipe = params.get("recipe")
    if recipe:
        epoch = f" epoch {params['epoch']}" if "epoch" in params else ""
        return f"{recipe.get('name')} seed {params.get('seed')}{epoch}"
    return str(params.get("dataset") or params.get("model") or params.get("size") or "")
