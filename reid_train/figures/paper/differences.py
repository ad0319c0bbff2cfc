"""How far rows of a table differ from those they are compared with, and how sure that is."""

from __future__ import annotations

from dataclasses import replace

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.statistics.differences import Contender
from reid_train.evaluation.statistics.differences import differences as tested
from reid_train.figures.charts.differences import Apart, differences
from reid_train.figures.paper.asked import Asked, Drawn
from reid_train.figures.paper.captions import conditions

MEASURE = "mAP"


def draw(asked: Asked) -> Drawn:
    """Every row less the one it is compared with, paired by seed. Raises ReidpipeError for rows of
    other queries.
    """
    views = {view.name: view for view in asked.views}
    members = [
        Contender(
            name,
            {run.seed: views[run.name].evaluation for run in row.runs if run.seed is not None},
        )
        for name, row in asked.rows.items()
    ]
    against = {name: row.against for name, row in asked.rows.items() if row.against}
    found, counts = {}, set()
    for row in tested(members, {frozenset(pair) for pair in against.items()}):
        if row["measure"] != MEASURE:
            continue
        if row["p"] is None:
            raise ReidpipeError(
                f"found {row['better']} and {row['worse']}, which cannot be compared: {row['why']}"
                "; expected evaluations of the same queries; leave one out"
            )
        above = against.get(row["better"]) == row["worse"]
        sign, name = (1, row["better"]) if above else (-1, row["worse"])
        seeds = row["over_seeds"] and _ends(row["over_seeds"]["interval"], sign)
        found[name] = Apart(100 * sign * row["difference"], seeds, _ends(row["interval"], sign))
        counts.add(row["seeds"])
    if max(counts) == 1:
        how = "one seed; 95 % intervals over query people, each of its pair alone"
    else:
        how = (
            f"paired by seed, {' or '.join(map(str, sorted(counts)))} in common; 95 % intervals, "
            "each of its pair alone: thick, over seeds (t); thin, over seeds and query people"
        )
    bases = list(dict.fromkeys(against.values()))
    reference = bases[0] if len(bases) == 1 else asked.rows[bases[0]].runs[0].recipe
    where = "" if len(bases) == 1 else " on the same dataset"
    shown = [replace(views[row.runs[0].name], name=name) for name, row in asked.rows.items()]
    told = f"{MEASURE} of each row less that of {reference}{where}, {how}. {conditions(shown)}"
    rows = {name: found[name] for name in against}
    chart = differences(rows, measure=MEASURE, reference=reference, width=asked.width)
    return Drawn(chart, told)


def _ends(interval: list[float], sign: int) -> list[float]:
    return sorted(100 * sign * end for end in interval)
