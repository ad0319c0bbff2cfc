"""Runs: a name for each trained model, and what it was trained from."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.artifacts import epochs
from pipeline.artifacts.atomic import read_json, write_json
from pipeline.artifacts.graph import renewed
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.errors import DamagedFile, ReidpipeError, nearest

log = logging.getLogger(__name__)

# Types in ``run.json``; a model trained elsewhere has no seed.
_RUN: dict[str, tuple[type, ...]] = {
    "recipe": (str,),
    "dataset": (str,),
    "seed": (int, type(None)),
    "created": (int, float),
}


@dataclass(frozen=True)
class Run:
    """A trained model: ``runs/<name>/run.json``.

    name: ``<recipe>-<dataset>-s<seed>-<6 digits of the model's key>``. recipe: its name.
    dataset: id with variant. seed: None of a model trained elsewhere, whose name then has none.
    created: seconds since 1970; 0 of one that is not written down. model: the step whose artifact
    holds the weights. Of a kept epoch name and model say which: ``NAME@4``.
    """

    name: str
    recipe: str
    dataset: str
    seed: int | None
    created: float
    model: Step

    @classmethod
    def of(cls, recipe: str, dataset: str, seed: int | None, model: Step) -> Run:
        """What the run of a model is called, written down or not."""
        return cls(run_name(recipe, dataset, seed, model.key), recipe, dataset, seed, 0.0, model)


def run_name(recipe: str, dataset: str, seed: int | None, key: str) -> str:
    """How the run of a model with this key is called."""
    part = "" if seed is None else f"-s{seed}"
    return f"{recipe}-{place_name(dataset)}{part}-{key[:6]}"


def place_name(dataset: str) -> str:
    """A dataset's id, with its variant, as a part of a file's name."""
    return dataset.replace(":", "_").replace("/", "_")


def record_runs(workspace: Workspace, runs: Iterable[Run]) -> list[Run]:
    """Write ``run.json`` of each, the last one the newest of all in the workspace: a clock that was
    put back changes no order. Of runs that are known already the date is renewed.
    """
    recorded: list[Run] = []
    for run in runs:
        newest = recorded[-1].created if recorded else _newest(workspace)
        run = replace(run, created=max(time.time(), newest + 1e-3))
        content: dict[str, Any] = {
            "name": run.name,
            "recipe": run.recipe,
            "dataset": run.dataset,
            "seed": run.seed,
            "created": run.created,
            "model": run.model.plain(),
            "model_key": run.model.key,
        }
        write_json(place(workspace, run), content)
        recorded.append(run)
    return recorded


def place(workspace: Workspace, run: Run) -> Path:
    """Where a run is written down."""
    return workspace.root / "runs" / run.name / "run.json"


def _newest(workspace: Workspace) -> float:
    """When the newest run was written down; its step is not looked at. 0.0 where there is none."""
    times = [0.0]
    for path in (workspace.root / "runs").glob("*/run.json"):
        with contextlib.suppress(DamagedFile, KeyError, TypeError, ValueError, OverflowError):
            created = float(read_json(path)["created"])
            times += [created] if math.isfinite(created) else []
    return max(times)


def list_runs(workspace: Workspace) -> list[Run]:
    """All runs, oldest first. One whose ``run.json`` cannot be read is left out with a warning."""
    runs = []
    for path in sorted((workspace.root / "runs").glob("*/run.json")):
        try:
            runs.append(_read(path))
        except DamagedFile:
            log.warning(
                "found %s damaged; expected a run; it is left out, type the reidpipe train "
                "that made it to write it again",
                path,
            )
    return sorted(runs, key=lambda run: (run.created, run.name))


def matching_runs(runs: Sequence[Run], reference: str) -> list[Run]:
    """The run called ``reference``, else those whose name or model key starts with it."""
    exact = [run for run in runs if run.name == reference]
    return exact or [
        run for run in runs if run.name.startswith(reference) or run.model.key.startswith(reference)
    ]


def nearest_run(runs: Sequence[Run], reference: str) -> str:
    """`` (did you mean 'x'?)`` for the run whose name, or beginning of one, is closest."""
    # a beginning is compared with as much of each name
    parts = {run.name[: len(reference)]: run.name for run in runs}
    hint = nearest(reference, [run.name for run in runs])
    return hint or nearest(reference, parts)


def find_run(
    workspace: Workspace, reference: str | None, known: Sequence[Run] | None = None
) -> Run:
    """The run called ``reference`` or whose name or model key starts with it; None: the newest.
    A run of an older version whose model was removed stands for the model that is made today.
    ``RUN@4``, ``RUN@best``: an epoch that was kept; ``RUN@last``: the run. known: what
    ``list_runs`` gives, where a command asks for several.

    Raises ReidpipeError when there is none, when several match, or for an epoch not kept.
    """
    runs = list_runs(workspace) if known is None else known
    if not runs:
        raise ReidpipeError(
            f"found no run in {workspace.root}; expected a trained model; type reidpipe train"
        )
    name, epoch = parted(runs, reference)
    found = _chosen(runs, name)
    found = replace(found, model=renewed(workspace, found.model))
    if epoch is None:
        return found
    called, step = epochs.chosen(workspace, found.name, found.model, epoch)
    return replace(found, name=called, model=step)


def parted(runs: Sequence[Run], reference: str | None) -> tuple[str | None, str | None]:
    """``NAME@EPOCH`` as its two halves; no epoch where a run's own name has the @."""
    if reference is None or "@" not in reference or matching_runs(runs, reference):
        return reference, None
    name, _, epoch = reference.rpartition("@")
    return name, epoch


def _chosen(runs: Sequence[Run], reference: str | None) -> Run:
    if reference is None:
        return runs[-1]
    matches = matching_runs(runs, reference)
    if not matches:
        raise ReidpipeError(
            f"found no run '{reference}'{nearest_run(runs, reference)}; expected one of "
            f"the runs of reidpipe status; type reidpipe eval {runs[-1].name}"
        )
    if len(matches) > 1:
        names = ", ".join(run.name for run in matches[:4])
        raise ReidpipeError(
            f"found {len(matches)} runs for '{reference}' ({names}); expected one; "
            "type more of its name"
        )
    return matches[0]


def _read(path: Path) -> Run:
    """What ``run.json`` tells, by the name of its folder. Raises DamagedFile for another shape."""
    value = read_json(path)
    try:
        told = {name: value[name] for name in ("recipe", "dataset", "seed", "created")}
        model = Step.from_plain(value["model"])
        if value.get("model_key", model.key) != model.key:
            raise ValueError("the model it tells of")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DamagedFile(
            f"found {path} without {error}; expected a run; type reidpipe train"
        ) from error
    for name, kinds in _RUN.items():
        if not isinstance(told[name], kinds) or told[name] != told[name]:
            raise DamagedFile(
                f"found {path} with {name} {told[name]!r}; expected a run; type reidpipe train"
            )
    return Run(name=path.parent.name, **told, model=model)
