"""``reidpipe status`` and ``reidpipe cache``: what exists, what it weighs, what is damaged."""

from __future__ import annotations

from typing import Any

import click

from pipeline.artifacts import graph
from pipeline.artifacts.checked import changed_outside
from pipeline.artifacts.kinds import KINDS
from pipeline.artifacts.runs import list_runs
from pipeline.artifacts.store import Artifact
from pipeline.terminal.commandline import CONTEXT, Terminal, json_option
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.tables import format_table, human_bytes


@click.command(context_settings=CONTEXT)
@json_option
def status(terminal: Terminal) -> None:
    """What the workspace holds: artifacts, unfinished work, runs, and what would be made to have
    a run's model again.

    Example: reidpipe status
    """
    artifacts = terminal.workspace.artifacts()
    rows = [_describe(artifact) for artifact in artifacts]
    runs = []
    for run in list_runs(terminal.workspace):
        lacking = [step.name for step in graph.missing(terminal.workspace, [run.model])]
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
    if rows:
        terminal.say(format_table(rows, ["step", "key", "state", "seconds", "size"]))
    else:
        terminal.say("no artifacts yet: type reidpipe demo")
    if runs:
        terminal.say("")
        terminal.say(format_table(runs, ["run", "recipe", "dataset", "seed", "state"]))
    unfinished = [row for row in rows if row["state"] != "complete"]
    if unfinished:
        terminal.say(
            f"\n{len(unfinished)} unfinished: the command that began them continues them; "
            "reidpipe cache rm unfinished drops them"
        )
    terminal.result({"workspace": str(terminal.workspace.root), "artifacts": rows, "runs": runs})


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
    """Remove artifacts: REFERENCE is a key's first digits, a step's name, or 'unfinished'.

    Example: reidpipe cache rm maps
    """
    found = terminal.workspace.artifacts()
    if reference == "unfinished":
        chosen = [artifact for artifact in found if not artifact.complete]
    else:
        chosen = terminal.workspace.find(reference)
        if not chosen:
            known = {artifact.step for artifact in found} | {artifact.key for artifact in found}
            raise ReidpipeError(
                f"found no artifact '{reference}'{nearest(reference, known)}; expected a step's "
                "name or at least 4 digits of a key; type reidpipe cache ls"
            )
    removed = []
    for artifact in chosen:
        if terminal.workspace.remove(artifact, unfinished=reference == "unfinished"):
            removed.append({"step": artifact.step, "key": artifact.key})
            terminal.say(f"removed {artifact.step} {artifact.key}")
        else:
            terminal.say(f"left {artifact.step} {artifact.key}: another process is at work on it")
    terminal.result(removed)


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
        if damaged and repair:
            terminal.workspace.repair(artifact, damaged)
        if images and not damaged and artifact.complete:
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
    if kind is None or not kind.outside:
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
    size = artifact.size()
    row: dict[str, Any] = {
        "step": artifact.step,
        "key": artifact.key,
        "state": "complete" if artifact.complete else "unfinished",
        "size": human_bytes(size),
        "bytes": size,
    }
    if artifact.complete:
        provenance = artifact.provenance()
        row["seconds"] = provenance["seconds"]
        row["about"] = _about(provenance["params"])
    return row


def _about(params: dict) -> str:
    recipe = params.get("recipe")
    if recipe:
        epoch = f" epoch {params['epoch']}" if "epoch" in params else ""
        return f"{recipe.get('name')} seed {params.get('seed')}{epoch}"
    return str(params.get("dataset") or params.get("model") or params.get("size") or "")
