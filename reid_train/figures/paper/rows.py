"""Rows of a table, each of which stands for the runs that differ in nothing but the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.artifacts.about import about
from pipeline.artifacts.graph import renewed
from pipeline.artifacts.runs import Run, find_run, list_runs, matching_runs
from pipeline.artifacts.steps import Step, leaves
from pipeline.artifacts.store import Workspace
from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.paper.asked import Row, maps_of


def read_rows(
    workspace: Workspace, references: Sequence[str], labels: Sequence[str]
) -> dict[str, Row]:
    """What is compared, by name, in the order of ``references``: each a recipe, of which all runs
    are meant, or the beginning of the runs' names.

    Rows of the first reference are what others trained on the same dataset are compared with; of a
    single reference its first row is. labels: what the rows are called; of none their recipe, and
    dataset, parser and settings where these differ. Raises ReidpipeError for fewer than two rows,
    or one that there is nothing to compare with.
    """
    groups, first = _groups(workspace, references)
    if len(groups) < 2:
        raise ReidpipeError(
            f"found one row, {groups[0][0].recipe}; expected the row that others are compared with "
            "and at least one other; type reidpipe figure differences clip-reid-tiny pi-vl-tiny"
        )
    bases = range(first if len(references) > 1 else 1)
    against: dict[int, int] = {}
    for place, group in enumerate(groups):
        if place in bases:
            continue
        same = [base for base in bases if _index(groups[base][0]) == _index(group[0])]
        if not same:
            raise ReidpipeError(
                f"found {group[0].recipe} on {group[0].dataset} and no {groups[0][0].recipe} on "
                "it; expected the row that it is compared with; type reidpipe run "
                f"{groups[0][0].recipe} --dataset {group[0].dataset}"
            )
        against[place] = same[0]
        _check_seeds(group, groups[same[0]])
    kept = [place for place in range(len(groups)) if place in {*against, *against.values()}]
    names = dict(zip(kept, _called([groups[place][0] for place in kept], labels), strict=True))
    return {
        names[place]: Row(
            # As ``find_run`` does: a run of an older version stands for what is made today.
            [replace(run, model=renewed(workspace, run.model)) for run in groups[place]],
            names[against[place]] if place in against else None,
        )
        for place in kept
    }


def compared(rows: Mapping[str, Row]) -> list[list[str]]:
    """Names of the runs of every two rows that are compared."""
    return [
        [run.name for each in (rows[row.against], row) for run in each.runs]
        for row in rows.values()
        if row.against is not None
    ]


def _groups(workspace: Workspace, references: Sequence[str]) -> tuple[list[list[Run]], int]:
    """The runs of each row, by seed, and how many rows are of the first reference."""
    found: dict[str, dict[int, Run]] = {}
    known, counts = list_runs(workspace), []
    for reference in references:
        named = [run for run in known if run.recipe == reference]
        for run in (
            named or matching_runs(known, reference) or [find_run(workspace, reference, known)]
        ):
            if run.seed is None:
                raise ReidpipeError(
                    f"found {run.name}, trained elsewhere; expected rows of several seeds; "
                    "leave it out, or type reidpipe eval for one run beside another"
                )
            found.setdefault(_alike(run.model), {})[run.seed] = run
        counts.append(len(found))
    return [[row[seed] for seed in sorted(row)] for row in found.values()], counts[0]


def _index(run: Run) -> str:
    return run.model.inputs["index"].key if "index" in run.model.inputs else run.dataset


def _check_seeds(row: Sequence[Run], base: Sequence[Run]) -> None:
    if not {run.seed for run in row} & {run.seed for run in base}:
        raise ReidpipeError(
            f"found {row[0].recipe} of other seeds than {base[0].recipe} on {row[0].dataset}; "
            f"expected one in common; type reidpipe run with --seed {base[0].seed}"
        )


def _called(runs: Sequence[Run], labels: Sequence[str]) -> list[str]:
    names = list(labels) or _names(runs)
    if len(names) != len(runs) or len(set(names)) < len(names) or not all(names):
        raise ReidpipeError(
            f"found {len(names)} --label ({', '.join(names)}) for {len(runs)} rows "
            f"({', '.join(_names(runs))}); expected one of its own for each; type --label once per "
            "row, in their order"
        )
    return names


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
    """Of each: its recipe, and what tells it from others: dataset, parser, settings."""
    datasets = {run.dataset for run in runs}
    parsers = [(found and about(found).parser) for found in map(maps_of, runs)]
    several = len({parser for parser in parsers if parser}) > 1
    names = [
        (f"{run.recipe} with {parser}" if several and parser else run.recipe)
        + (f" on {run.dataset}" if len(datasets) > 1 else "")
        for run, parser in zip(runs, parsers, strict=True)
    ]
    flat = [dict(leaves(run.model.params.get("recipe"))) for run in runs]
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
