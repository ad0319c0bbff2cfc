"""What ``reidpipe run`` asks for: every combination of recipe, dataset, parser and seed as one
request, and the table of the results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.artifacts.checked import read_json
from pipeline.artifacts.runs import Run, record_runs
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.datasets.sources import index_step
from pipeline.terminal.commandline import Terminal
from pipeline.terminal.errors import ReidpipeError, nearest
from pipeline.terminal.publishing import Column, Table
from pipeline.terminal.tables import format_table
from reid_train.evaluation.results import check_evaluable, evaluation_step, measure, protocol_line
from reid_train.evaluation.spread import percent, spread
from reid_train.evaluation.statistics.differences import Contender
from reid_train.evaluation.statistics.telling import warning
from reid_train.recipe.arguments import Once, check_data, model_step

MEASURES = ("mAP", "Rank-1", "Rank-5", "mINP")
MOST_SEEDS = 1000
TOLD = ("recipe", "dataset", "tested", "parsing", "settings")
SOMETIMES = ("tested", "settings")  # columns that tables leave out where no row has anything


class Row(NamedTuple):
    """A line of the table; ``settings`` as text, empty where none vary; ``tested`` None where that
    is what was trained on.
    """

    recipe: str
    dataset: str
    parsing: str | None
    settings: str
    tested: str | None = None


@dataclass(frozen=True)
class Cell:
    """One evaluation of a ``run``: what it was asked for, its model and itself. ``parsing`` is None
    where the recipe reads no label maps, ``tested`` where no other dataset than the one trained on
    was named. ``settings``: those that make it another row than its neighbours.
    """

    recipe: str
    dataset: str
    parsing: str | None
    seed: int
    model: Step
    evaluation: Step
    settings: tuple[str, ...] = ()
    tested: str | None = None

    @property
    def run(self) -> Run:
        """Of its model, written down or not."""
        return Run.of(self.recipe, self.dataset, self.seed, self.model)

    @property
    def indices(self) -> tuple[Step, Step]:
        """Of what is trained on, and of what is tested on."""
        return self.model.inputs["index"], self.evaluation.inputs["index"]

    @property
    def row(self) -> Row:
        """What it shares with the other seeds of its line in the table."""
        settings = " ".join(self.settings)
        return Row(self.recipe, self.dataset, self.parsing, settings, self.tested)


def read_seeds(texts: Iterable[str]) -> tuple[int, ...]:
    """``("0-2", "7")`` as (0, 1, 2, 7): numbers and ranges, each seed once, at most a thousand."""
    seeds: dict[int, None] = {}
    for text in ",".join(texts).split(","):
        found = re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", text.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        # Counted before they are listed: a range of billions would fill the memory.
        if not 0 <= last - first < MOST_SEEDS - len(seeds):
            raise ReidpipeError(
                f"found --seed {text}; expected a number from 0 or a range, {MOST_SEEDS} seeds at "
                "most; type --seed 0-4"
            )
        seeds |= dict.fromkeys(range(first, last + 1))
    return tuple(seeds)


def read_names(texts: Iterable[str], option: str) -> tuple[str, ...]:
    """Names given one by one or joined by commas, each once; commas in brackets belong to a name,
    as in ``schp:input_size=[256,128]``.
    """
    names = [name.strip() for text in texts for name in re.split(r",(?![^\[]*\])", text)]
    if not all(names):
        raise ReidpipeError(
            f"found an empty name in {option} {','.join(names)}; expected names joined by commas; "
            f"type {option} A,B"
        )
    return tuple(dict.fromkeys(names))


def combinations(
    terminal: Terminal,
    recipes: Sequence[str],
    datasets: Sequence[str],
    parsers: Sequence[str],
    seeds: Sequence[int],
    *,
    label_maps: Callable[[Step, str], Step],
    pretrained: str | None = None,
    settings: tuple[str, ...] = (),
    variations: Sequence[tuple[str, ...]] = ((),),
    tested: Sequence[str] = (),
    feature: str | None = None,
) -> list[Cell]:
    """Everything to train and evaluate, row after row of the table.

    Parsers vary only under recipes that read label maps. ``label_maps(index, parser)`` gives
    the maps and is asked once per pair. variations: settings beside the others, row by row. tested:
    datasets that every model is evaluated on, in place of its own; feature: the output compared, in
    place of the embedding. Raises ReidpipeError for the first mistake in any of the combinations,
    before anything is executed.
    """
    once = Once()
    loaded = {
        recipe: once.recipe(recipe, (*settings, *variations[0]))
        for recipe in dict.fromkeys(recipes)
    }
    names = [recipe.name for recipe in loaded.values()]
    for name in names:
        if names.count(name) > 1:
            raise ReidpipeError(
                f"found {names.count(name)} recipes called '{name}'; expected a name of its own "
                "for each row of the table; rename a file"
            )
    indices = {
        name: index_step(terminal.workspace, name, make=terminal.make)
        for name in dict.fromkeys(datasets)
    }
    targets: dict[str | None, Step | None] = {
        name: index_step(terminal.workspace, name, make=terminal.make) for name in tested
    } or {None: None}
    maps: dict[tuple[str, str], Step] = {}
    cells = []
    for given, recipe in loaded.items():
        for (dataset, index), varied, parsing in product(
            indices.items(), variations, parsers if recipe.reads_maps else (None,)
        ):
            if parsing is not None and (dataset, parsing) not in maps:
                maps[dataset, parsing] = label_maps(index, parsing)
            for seed in seeds:
                model = model_step(
                    terminal,
                    given,
                    dataset,
                    seed=seed,
                    pretrained=pretrained,
                    settings=(*settings, *varied),
                    label_maps=lambda _, at=(dataset, parsing): maps[at],  # type: ignore[index]
                    index=index,
                    once=once,
                )
                called = model.params["recipe"]["name"]
                for name, target in targets.items():
                    evaluation = evaluation_step(terminal, model, dataset=target, feature=feature)
                    cells.append(
                        Cell(called, dataset, parsing, seed, model, evaluation, varied, name)
                    )
    return cells


def check(workspace: Workspace, cells: Iterable[Cell]) -> None:
    """Raise ReidpipeError for the first cell that its dataset has no labels for, where its index
    exists: to train, or to evaluate on.
    """
    for cell in {cell.row: cell for cell in cells}.values():
        if not all(map(workspace.complete, cell.indices)):
            continue  # one could not be made, and is told as such
        check_data(workspace, cell.model, cell.dataset)
        if not workspace.complete(cell.evaluation):
            check_evaluable(workspace, cell.evaluation, run=None)


def made(workspace: Workspace, cells: Iterable[Cell]) -> list[Cell]:
    """The cells whose evaluation exists."""
    return [cell for cell in cells if workspace.complete(cell.evaluation)]


def absent(asked: Iterable[Cell], cells: Iterable[Cell]) -> list[str]:
    """A line for each cell that was asked for and could not be made."""
    there = set(map(id, cells))
    return [
        f"missing {cell.recipe} on {cell.dataset}"
        f"{f', tested on {cell.tested}' if cell.tested else ''}"
        f"{f' with {cell.parsing}' if cell.parsing else ''}"
        f"{f' at {cell.row.settings}' if cell.settings else ''}, seed {cell.seed}: its row is of "
        "the other seeds, or absent"
        for cell in asked
        if id(cell) not in there
    ]


def record(terminal: Terminal, cells: Iterable[Cell]) -> list[str]:
    """Write each trained model down as a run; the names, in order."""
    return [run.name for run in record_runs(terminal.workspace, [cell.run for cell in cells])]


def results(terminal: Terminal, cells: Sequence[Cell], runs: Sequence[str]) -> list[dict[str, Any]]:
    """One mapping per row of the table: its figures per seed (0..1), mean and spread."""
    rows: dict[Row, list[tuple[Cell, str, dict[str, Any]]]] = {}
    for cell, run in zip(cells, runs, strict=True):
        metrics = read_json(terminal.workspace.folder(cell.evaluation) / "metrics.json")
        rows.setdefault(cell.row, []).append((cell, run, metrics))
    return [
        {
            **row._asdict(),
            "seeds": [cell.seed for cell, _, _ in members],
            "runs": [run for _, run, _ in members],
            "evaluations": [cell.evaluation.key for cell, _, _ in members],
            "protocol": protocol_line(members[0][2], members[0][0].evaluation),
            "side_information": members[0][2].get("side_information"),
            **{
                name: spread([measure(metrics, name) for _, _, metrics in members])
                for name in MEASURES
            },
        }
        for row, members in rows.items()
    ]


def contenders(
    terminal: Terminal, cells: Iterable[Cell], names: Mapping[Row, str]
) -> list[Contender]:
    """The rows of the table as what is compared: each with its evaluations by seed. names: of
    ``named``, of all rows that were asked for.
    """
    folders: dict[Row, dict[int, Path]] = {}
    for cell in cells:
        folders.setdefault(cell.row, {})[cell.seed] = terminal.workspace.folder(cell.evaluation)
    return [Contender(names[row], seeds) for row, seeds in folders.items()]


def pairs_with(names: Mapping[Row, str], against: str) -> set[frozenset[str]]:
    """The pairs of ``contenders``, by name, that ``run --against`` is about: each row with those of
    a recipe, or of ``RECIPE with PARSER``, at the same settings. Raises ReidpipeError where there
    is no such row, and where it stands alone.
    """
    known = dict.fromkeys(row.recipe for row in names)
    known |= {_read(row): None for row in names if row.parsing}
    if against not in known:
        raise ReidpipeError(
            f"found --against {against}{nearest(against, known)}; expected a recipe of the table, "
            f"or one with its parser; type --against '{next(iter(known))}'"
        )
    pairs = {
        frozenset((name, names[other]))
        for (row, name), other in product(names.items(), names)
        if against in (other.recipe, _read(other)) and row != other
        if (row.dataset, row.tested, row.settings) == (other.dataset, other.tested, other.settings)
    }
    if not pairs:
        raise ReidpipeError(
            f"found --against {against} and no other row with the same data and settings; expected "
            "another recipe or parser beside it; leave --against out to compare all rows"
        )
    return pairs


def _read(row: Row) -> str:
    return f"{row.recipe} with {row.parsing}" if row.parsing else row.recipe


def named(cells: Iterable[Cell]) -> dict[Row, str]:
    """Each row of the table by what tells it apart from others that are tested on the same: the
    recipe, the parser where there are several, what it was trained on likewise, settings that vary.
    """
    rows = dict.fromkeys(cell.row for cell in cells)
    several = len({row.parsing for row in rows if row.parsing is not None}) > 1
    trained = len({row.dataset for row in rows}) > 1
    return {
        row: (_read(row) if several else row.recipe)
        + (f" trained on {row.dataset}" if row.tested and trained else "")
        + (f" at {row.settings}" if row.settings else "")
        for row in rows
    }


def warnings(terminal: Terminal, cells: Iterable[Cell], runs: Iterable[str]) -> list[str]:
    """A line for each trained model whose mAP a random ranking would reach."""
    told = [
        warning(read_json(terminal.workspace.folder(cell.evaluation) / "metrics.json"), run)
        for cell, run in zip(cells, runs, strict=True)
    ]
    return [line for line in told if line is not None]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of ``results`` as text: percent, mean ± sample standard deviation."""
    told = [name for name in TOLD if name not in SOMETIMES or any(row.get(name) for row in rows)]
    shown = [
        {
            **{name: row[name] for name in told},
            "seeds": len(row["seeds"]),
            **{name: percent(row[name]) for name in MEASURES},
        }
        for row in rows
    ]
    return format_table(shown, [*told, "seeds", *MEASURES])


def publication(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows of ``results`` as a table for a paper; the best of each dataset is marked."""
    told = [name for name in TOLD if any(row.get(name) for row in rows)]
    columns = [Column(name) for name in told] + [Column("seeds", "count")]
    return Table(
        [*columns, *(Column(name, "percent", best=True) for name in MEASURES)],
        [{**row, "seeds": len(row["seeds"])} for row in rows],
        [row["protocol"] for row in rows],
        compared=tuple(name for name in ("dataset", "tested") if name in told),
        about="Retrieval of people",
    )


def protocols(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The protocol lines of all rows, each once, and what became of tables of cameras or views."""
    told = [
        f"{row['recipe']} on {row['tested'] or row['dataset']}: {row['side_information']}"
        for row in rows
        if row["side_information"]
    ]
    return list(dict.fromkeys([*(row["protocol"] for row in rows), *told]))
