"""Sources by targets: several models on several datasets, figures of each in one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.artifacts.checked import read_json
from pipeline.artifacts.runs import Run
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.tables import format_table
from reid_train.evaluation.results import (
    METRICS_FILE,
    check_evaluable,
    measure,
    protocol_line,
    rerank_words,
)

# No id of a dataset has a space: these never meet a column of a target.
SOURCE = ("source run", "trained on")


@dataclass(frozen=True)
class Cell:
    """A model on a dataset."""

    run: Run
    step: Step

    @property
    def target(self) -> Step:
        """The index of the dataset."""
        return self.step.inputs["index"]


def check_cells(workspace: Workspace, cells: Iterable[Cell]) -> None:
    """Raise ReidpipeError for the first cell that its dataset, whose index exists, has no labels or
    no images for.
    """
    for cell in cells:
        if not workspace.complete(cell.step):
            check_evaluable(workspace, cell.step, run=cell.run.name)


def read_figures(workspace: Workspace, cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """``metrics.json`` of each cell."""
    return [read_json(workspace.folder(cell.step) / METRICS_FILE) for cell in cells]


def matrix_lines(cells: Sequence[Cell], figures: Sequence[dict[str, Any]]) -> list[str]:
    """What a person is shown: mAP and Rank-1 in percent, a row per run and a column per dataset;
    ``-`` where a run was not asked for. Then what the numbers depend on, each protocol once, with
    the runs it holds for where others of that dataset differ.
    """
    lines = _tables(cells, figures, "")
    if any(found.get("rerank") for found in figures):
        again = [{**found, **(found.get("rerank") or {})} for found in figures]
        lines += _tables(cells, again, f", {rerank_words(figures[0])}")
    return [*lines, *_protocols(cells, figures)]


def target_names(cells: Sequence[Cell]) -> list[str]:
    """For each cell what its dataset is called: sets of one's own with one name are told apart."""
    indices = {cell.target.key: str(cell.target.params["dataset"]) for cell in cells}
    names = list(indices.values())
    called = {
        key: name if names.count(name) == 1 else f"{name} (index {key[:8]})"
        for key, name in indices.items()
    }
    return [called[cell.target.key] for cell in cells]


def _tables(cells: Sequence[Cell], figures: Sequence[dict[str, Any]], conditions: str) -> list[str]:
    targets = target_names(cells)
    lines = []
    for name in ("mAP", "Rank-1"):
        rows: dict[str, dict[str, Any]] = {}
        for cell, target, found in zip(cells, targets, figures, strict=True):
            row = rows.setdefault(cell.run.name, {})
            row.update(zip(SOURCE, (cell.run.name, cell.run.dataset), strict=True))
            row[target] = 100 * measure(found, name)
        lines.append(f"{name} (%){conditions}:")
        lines.append(format_table(list(rows.values()), [*SOURCE, *dict.fromkeys(targets)]))
    return lines


def _protocols(cells: Sequence[Cell], figures: Sequence[dict[str, Any]]) -> list[str]:
    said: dict[str, list[str]] = {}
    of_target: dict[str, set[str]] = {}
    for cell, found in zip(cells, figures, strict=True):
        line = protocol_line(found, cell.step)
        said.setdefault(line, []).append(cell.run.name)
        of_target.setdefault(cell.target.key, set()).add(line)
    several = {line for lines in of_target.values() if len(lines) > 1 for line in lines}
    lines = [
        f"{line}; {', '.join(runs)}" if line in several else line for line, runs in said.items()
    ]
    told = [
        f"{cell.run.name} on {target}: {found['side_information']}"
        for cell, target, found in zip(cells, target_names(cells), figures, strict=True)
        if found.get("side_information")
    ]
    return [*lines, *told]
