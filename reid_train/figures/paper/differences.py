"""How far the rows of a table differ from its first, with how sure that is."""

from __future__ import annotations

from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.statistics.differences import Contender
from reid_train.evaluation.statistics.differences import differences as tested
from reid_train.figures.charts.differences import Apart, differences
from reid_train.figures.paper.asked import Asked, Drawn
from reid_train.figures.paper.captions import conditions

MEASURE = "mAP"


def draw(asked: Asked) -> Drawn:
    """Every row less the first, paired by seed. Raises ReidpipeError for rows of other queries."""
    views = {view.name: view for view in asked.views}
    members = [
        Contender(
            label, {run.seed: views[run.name].evaluation for run in runs if run.seed is not None}
        )
        for label, runs in asked.rows.items()
    ]
    reference, *others = (member.name for member in members)
    pairs = {frozenset((reference, other)) for other in others}
    found = {}
    for row in tested(members, pairs):
        if row["measure"] != MEASURE:
            continue
        if row["p"] is None:
            raise ReidpipeError(
                f"found {row['better']} and {row['worse']}, which cannot be compared: {row['why']}"
                "; expected evaluations of the same queries; leave one out"
            )
        sign = 1 if row["worse"] == reference else -1
        name = row["better"] if row["worse"] == reference else row["worse"]
        seeds = row["over_seeds"] and _ends(row["over_seeds"]["interval"], sign)
        found[name] = (
            Apart(100 * sign * row["difference"], seeds, _ends(row["interval"], sign)),
            row["seeds"],
        )
    rows = {name: found[name][0] for name in others}
    counts = sorted({found[name][1] for name in others})
    if counts[-1] == 1:
        how = "one seed; 95 % intervals over query people, each of its pair alone"
    else:
        how = (
            f"paired by seed, {' or '.join(map(str, counts))} in common; 95 % intervals, each of "
            "its pair alone: thick, over seeds (t); thin, over seeds and query people"
        )
    told = f"{MEASURE} of each row less that of {reference}, {how}. {conditions(asked.views)}"
    chart = differences(rows, measure=MEASURE, reference=reference, width=asked.width)
    return Drawn(chart, told)


def _ends(interval: list[float], sign: int) -> list[float]:
    return sorted(100 * sign * end for end in interval)
