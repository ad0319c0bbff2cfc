"""Rows of a table, each of which stands for the runs that differ in nothing but the seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.artifacts.about import about
from pipeline.artifacts.graph import renewed
from pipeline.artifacts.runs import Run, find_run, list_runs, matching_runs
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.paper.asked import maps_of

Rows = Mapping[str, Sequence[Run]]


def read_rows(workspace: Workspace, references: Sequence[str], labels: Sequence[str]) -> Rows:
    """Label -> its runs by seed, in the order of ``references``: each a recipe, of which all runs
    are meant, or the beginning of the runs' names.

    labels: what the rows are called; of none their recipe, its parser where parsers differ, and
    settings that differ. Raises ReidpipeError for fewer than two rows, or where one has no seed in
    common with the first.
    """
    found: dict[str, dict[int, Run]] = {}
    known = list_runs(workspace)
    for reference in references:
        named = [run for run in known if run.recipe == reference]
        matched = named or matching_runs(known, reference) or [find_run(workspace, reference)]
        for run in matched:
            if run.seed is None:
                raise ReidpipeError(
                    f"found {run.name}, trained elsewhere; expected rows of several seeds; "
                    "leave it out, or type reidpipe eval for one run beside another"
                )
            found.setdefault(_alike(run.model), {})[run.seed] = run
    groups = [[row[seed] for seed in sorted(row)] for row in found.values()]
    if len(groups) < 2:
        raise ReidpipeError(
            f"found one row, {groups[0][0].recipe}; expected the row that others are compared with "
            "and at least one other; type reidpipe figure differences clip-reid-tiny pi-vl-tiny"
        )
    names = list(labels) or _names([group[0] for group in groups])
    if len(names) != len(groups) or len(set(names)) < len(names) or not all(names):
        rows = ", ".join(_names([group[0] for group in groups]))
        raise ReidpipeError(
            f"found {len(names)} --label ({', '.join(names)}) for {len(groups)} rows ({rows}); "
            "expected one of its own for each; type --label once per row, in their order"
        )
    rows = {
        # As ``find_run`` does: a run of an older version stands for what is made today.
        name: [replace(run, model=renewed(workspace, run.model)) for run in group]
        for name, group in zip(names, groups, strict=True)
    }
    for name, group in rows.items():
        if not {run.seed for run in group} & {run.seed for run in groups[0]}:
            raise ReidpipeError(
                f"found {name} of other seeds than {names[0]}; expected one in common; type "
                f"reidpipe run with --seed {groups[0][0].seed}"
            )
    return rows


def _alike(step: Step) -> str:
    """What a step and all below it are asked for, without the seeds of training."""
    content = {
        "name": step.name,
        "params": {
            name: value
            for name, value in step.params.items()
            # Generated people have a seed too, which says who they are.
            if name != "seed" or step.name == "index"
        },
        "inputs": {name: _alike(below) for name, below in step.inputs.items()},
        "weights": dict(step.weights),
    }
    return json.dumps(content, sort_keys=True)


def _names(runs: Sequence[Run]) -> list[str]:
    """Of each: its recipe, and what tells it from others of the same."""
    parsers = [(found and about(found).parser) for found in map(maps_of, runs)]
    several = len({parser for parser in parsers if parser}) > 1
    names = [
        f"{run.recipe} with {parser}" if several and parser else run.recipe
        for run, parser in zip(runs, parsers, strict=True)
    ]
    flat = [dict(_flat(run.model.params.get("recipe"), "")) for run in runs]
    told = []
    for place, name in enumerate(names):
        others = [flat[other] for other, same in enumerate(names) if same == name]
        varied = [
            f"{key}={json.dumps(value)}"
            for key, value in flat[place].items()
            if any(other.get(key) != value for other in others)
        ]
        told.append(f"{name} at {' '.join(varied)}" if varied else name)
    return told


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """``stages.image.epochs`` -> 24, as ``--set`` writes keys, for all that is no mapping."""
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        items = ((item.get("name", place), item) for place, item in enumerate(value))
    else:
        yield key, value
        return
    for name, item in items:
        yield from _flat(item, f"{key}.{name}".lstrip("."))
