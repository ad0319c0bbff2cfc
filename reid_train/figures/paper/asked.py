"""What a figure is asked for, and what is drawn: shared by all kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.artifacts.requests import maps_read
from pipeline.artifacts.runs import Run
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.charts.style import Width
from reid_train.figures.page.views import RunView


@dataclass(frozen=True)
class Row:
    """runs: by seed, ascending. against: the name of the row that this one is compared with; None
    of those others are compared with.
    """

    runs: Sequence[Run]
    against: str | None = None


@dataclass(frozen=True)
class Asked:
    """runs: by the name the figure calls them. evaluations: of each, in order; empty for kinds that
    need none. rows: by name, of kinds that draw rows. queries: keys of images, or how many to
    choose (None: as many as suit). top: how many ranks or matches (None: as many as suit).
    """

    workspace: Workspace
    runs: Mapping[str, Run]
    evaluations: Sequence[Step]
    width: Width
    rows: Mapping[str, Row] = field(default_factory=dict)
    queries: Sequence[str] | int | None = None
    top: int | None = None

    @cached_property
    def views(self) -> list[RunView]:
        """The evaluated runs, whose artifacts exist."""
        return [
            RunView(
                name,
                self.workspace.folder(step),
                self.workspace.folder(step.inputs["index"]),
                self.workspace.folder(step.inputs["model"]),
            )
            for name, step in zip(self.runs, self.evaluations, strict=True)
        ]


@dataclass(frozen=True)
class Drawn:
    """A matplotlib figure and what it shows, in sentences with every protocol."""

    figure: Any
    caption: str


@dataclass(frozen=True)
class Kind:
    """A kind of figure. title: as headings call it. draw: called when ``steps`` exist. evaluated:
    whether runs are evaluated for it. options: those of ``--query`` and ``--top`` it has. pictures:
    whether it shows images. rows: whether it draws rows, each of several seeds, and no single
    runs. width: by default.
    """

    title: str
    draw: Callable[[Asked], Drawn]
    steps: Callable[[Asked], list[Step]] = lambda asked: list(asked.evaluations)
    evaluated: bool = True
    options: frozenset[str] = frozenset()
    pictures: bool = False
    rows: bool = False
    width: Width = "two"


def one_question(names: Sequence[str], evaluations: Sequence[Step]) -> None:
    """Raise ReidpipeError unless the runs are evaluated on the same images under one protocol: two
    lines of a figure are compared by everybody who sees them.
    """
    asked = [_question(step) for step in evaluations]
    for name, question in zip(names, asked, strict=True):
        if question != asked[0]:
            dataset = evaluations[0].inputs["index"].params["dataset"]
            raise ReidpipeError(
                f"found {names[0]} on {asked[0]} and {name} on {question}; expected runs on one "
                f"dataset under one protocol in a figure; type --dataset {dataset}, or a figure "
                "for each"
            )


def _question(evaluation: Step) -> str:
    index, params = evaluation.inputs["index"], evaluation.params
    return (
        f"{index.params['dataset']} {params['protocol']}, excluded {params['exclude']} "
        f"(index {index.key[:8]})"
    )


def maps_of(run: Run) -> Step | None:
    """The label maps that the run's model read, if it did."""
    return maps_read(run.model)


def spread(keys: Sequence[str], count: int) -> list[str]:
    """At most ``count`` of ``keys``, evenly spread over their order."""
    ordered = sorted(keys)
    if len(ordered) <= count:
        return ordered
    return [ordered[round(n * (len(ordered) - 1) / max(1, count - 1))] for n in range(count)]


def no_such_image(key: str, where: str, example: str) -> ReidpipeError:
    """The error for a ``--query`` that names nothing."""
    return ReidpipeError(
        f"found --query {key}, which is no {where}; expected its key as index.csv has it, or how "
        f"many to choose; type --query {example}"
    )


def logs(folders: Sequence[Path]) -> list[Path]:
    """The logs of training among artifacts."""
    return [path for folder in folders if (path := folder / "log.jsonl").is_file()]
