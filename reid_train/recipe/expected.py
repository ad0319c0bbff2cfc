"""Measured figures beside those a recipe expects, and in which conditions the two differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.checked import read_json
from pipeline.artifacts.epochs import trained
from pipeline.artifacts.store import Workspace
from reid_train.evaluation.results import measure
from reid_train.recipe import random_start
from reid_train.recipe.conditions import differences
from reid_train.recipe.loading import list_recipes, load_recipe
from reid_train.recipe.schema import Expected, Published

if TYPE_CHECKING:
    from pipeline.artifacts.steps import Step
    from reid_train.recipe.combinations import Cell, Row

LISTED = 6


@dataclass(frozen=True)
class Measure:
    """One figure: as expected and as measured, in 0..1, the latter a mean over seeds.

    std, of: the standard deviation the difference is seen in, and of what it is; None: unknown.
    interval: of one evaluation, where there is one. digits: decimals to print, in percent.
    """

    name: str
    expected: float
    measured: float
    std: float | None = None
    of: str = ""
    interval: tuple[float, float] | None = None
    digits: int = 1

    @property
    def difference(self) -> float:
        """Measured less expected."""
        return self.measured - self.expected

    def percent(self, share: float, sign: str = "") -> str:
        """A share in percent, with as many decimals as the expected figures are given with."""
        # Nothing is less than zero by nothing.
        return f"{round(100 * share, self.digits) + 0.0:{sign}.{self.digits}f}"

    @property
    def deviations(self) -> float | None:
        """The difference in standard deviations; None without any, or where nothing varies."""
        return self.difference / self.std if self.std else None

    @property
    def inside(self) -> bool | None:
        """Whether the expected figure lies in the interval of what was measured."""
        if self.interval is None:
            return None
        return self.interval[0] <= self.expected <= self.interval[1]

    def row(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "expected": self.expected,
            "measured": self.measured,
            "difference": self.difference,
            "std": self.std,
            "std_of": self.of or None,
            "deviations": self.deviations,
            "interval": list(self.interval) if self.interval else None,
            "inside": self.inside,
        }


@dataclass(frozen=True)
class Beside:
    """One expected result beside what was measured. label: what to call the row where there are
    several. deviations: of the recipe from its source, which say why else the two may differ.
    varies: whether another seed could give another result.
    """

    recipe: str
    expected: Published
    measures: tuple[Measure, ...]
    conditions: tuple[str, ...]
    about: Mapping[str, Any]
    deviations: tuple[str, ...] = ()
    label: str = ""
    varies: bool = True

    def lines(self) -> list[str]:
        """What to print: the figures, the difference in a spread, what else differs."""
        start = f"{self.label}: " if self.label else ""
        first = ", ".join(f"{m.name} {m.percent(m.expected)}" for m in self.measures)
        second = ", ".join(m.percent(m.measured) for m in self.measures)
        change = ", ".join(m.percent(m.difference, "+") for m in self.measures)
        told = f"{first} ({self.expected.told_source}); measured {second}: {change}"
        found = [f"{start}published: {told}"]
        found += [f"  {line}" for line in (*self._spread(), self._conditions())]
        return found

    def _spread(self) -> list[str]:
        seen = [m for m in self.measures if m.deviations is not None]
        if seen:
            told = ", ".join(f"{m.name} {m.deviations:+.1f}" for m in seen)
            return [f"in standard deviations of {seen[0].of}: {told}"]
        if not self.varies:
            return []
        if still := [m for m in self.measures if m.std == 0.0]:
            return [f"{still[0].of} do not vary"]
        held = [m for m in self.measures if m.interval is not None]
        if not held:
            return ["no spread is known; several seeds give one"]
        told = ", ".join(
            f"{m.name} {'inside' if m.inside else 'outside'} "
            f"{m.percent(m.interval[0])} to {m.percent(m.interval[1])}"
            for m in held
            if m.interval is not None
        )
        return [f"in this evaluation's 95 % interval: {told}"]

    def _conditions(self) -> str:
        told = list(self.conditions[:LISTED])
        if len(self.conditions) > LISTED:
            told.append(f"and {len(self.conditions) - LISTED} more")
        line = "conditions that differ: " + ("; ".join(told) or "none that is known")
        if self.expected.note:
            line += f"; of the source: {self.expected.note}"
        if self.deviations:
            line += f"; the recipe's own deviations: reidpipe recipes {self.recipe}"
        return line

    def row(self) -> dict[str, Any]:
        """As JSON values."""
        given = self.expected
        return {
            "recipe": self.recipe,
            **self.about,
            "source": given.source,
            "via": given.via or None,
            "unchecked": given.unchecked,
            "measures": {m.name: m.row() for m in self.measures},
            "conditions": list(self.conditions),
            "note": given.note or None,
            "deviations": list(self.deviations),
        }


def beside(
    recipe: str, evaluation: Step, metrics: Sequence[Mapping[str, Any]], *, label: str = ""
) -> list[Beside]:
    """What ``recipe``, by its name, expects of an evaluation, beside it; ``metrics``: of each seed,
    as in ``metrics.json``, with ``evaluation`` the first one's step.

    Of several expected results of one dataset and protocol those whose conditions are nearest.
    Nothing for a recipe that is no packaged one, for another dataset or protocol, and for a model
    that was trained elsewhere.
    """
    recipe = random_start.published(recipe)
    if recipe not in list_recipes():
        return []
    model, first = trained(evaluation.inputs["model"]), metrics[0]
    if "index" not in model.inputs:
        return []
    known, tested = load_recipe(recipe), str(first["dataset"])
    if _base(str(model.inputs["index"].params["dataset"])) != _base(tested):
        return []
    found: list[Beside] = []
    for reranked in (False, True):
        near: list[tuple[Expected, list[str]]] = [
            (given, differences(known, given, evaluation, tested))
            for given in known.expected
            if _base(given.dataset) == _base(tested)
            and given.protocol == first["protocol"]
            and (given.rerank is not None) == reranked
        ]
        if not near or (reranked and not first.get("rerank")):
            continue
        figures = [m["rerank"] if reranked else m for m in metrics]
        least = min(len(conditions) for _, conditions in near)
        found += [
            Beside(
                recipe,
                given,
                measures(
                    given,
                    {n: [measure(m, n) for m in figures] for n in given.figures_by_name()},
                    figures[0].get("intervals") or {},
                ),
                tuple(conditions),
                {"dataset": tested, "protocol": given.protocol, "reranked": reranked},
                known.deviations,
                label,
            )
            for given, conditions in near
            if len(conditions) == least
        ]
    return found


def beside_cells(workspace: Workspace, cells: Iterable[Cell]) -> list[Beside]:
    """``beside`` for every row of the table of ``run``."""
    rows: dict[Row, list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.row, []).append(cell)
    found = []
    for row, members in rows.items():
        metrics = [read_json(workspace.folder(c.evaluation) / "metrics.json") for c in members]
        label = f"{row.recipe} on {row.dataset}"
        label += f", tested on {row.tested}" if row.tested else ""
        label += f", maps by {row.parsing}" if row.parsing else ""
        label += f", {row.settings}" if row.settings else ""
        found += beside(row.recipe, members[0].evaluation, metrics, label=label)
    return found


def measures(
    given: Published, values: Mapping[str, Sequence[float]], intervals: Mapping[str, Any]
) -> tuple[Measure, ...]:
    """The expected figures beside ``values`` of each seed. The difference is seen in the spread of
    these seeds; of one seed in that of the expected figures, else in the evaluation's interval.
    Figures that were not measured are left out.
    """
    found = []
    for name, expected in given.figures_by_name().items():
        if name not in values:
            continue
        seeds = list(values[name])
        std, of, interval = None, "", None
        if len(seeds) > 1:
            std, of = stdev(seeds), f"these {len(seeds)} seeds"
        elif name in given.spread:
            std, of = given.spread[name], f"the {given.seeds or 'several'} seeds expected"
        elif intervals.get(name):
            interval = (float(intervals[name][0]), float(intervals[name][1]))
        found.append(Measure(name, expected, mean(seeds), std, of, interval, given.digits))
    return tuple(found)


def lines(found: Iterable[Beside]) -> list[str]:
    """All lines of all results."""
    return [line for each in found for line in each.lines()]


def rows(found: Iterable[Beside]) -> list[dict[str, Any]]:
    """All results as JSON values."""
    return [each.row() for each in found]


def _base(dataset: str) -> str:
    return dataset.partition(":")[0]
