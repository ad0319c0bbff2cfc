"""Features of cells by body part, laid out by t-SNE, a panel per run."""

from __future__ import annotations

from pipeline.artifacts.arrays import read_arrays
from pipeline.artifacts.checked import read_json
from pipeline.artifacts.requests import index_of
from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train.figures.charts import scatter
from reid_train.figures.paper.asked import Asked, Drawn, maps_of
from reid_train.figures.paper.captions import conditions
from reid_train.figures.part_features import GROUPS

POINTS, ABOUT = "cells.npz", "cells.json"


def steps(asked: Asked) -> list[Step]:
    """The evaluations, and the laid out cells of each run."""
    return [*asked.evaluations, *_cells(asked)]


def _cells(asked: Asked) -> list[Step]:
    """Raises ReidpipeError unless one of the runs read label maps of the evaluated images."""
    index = asked.evaluations[0].inputs["index"]
    read = [maps for run in asked.runs.values() if (maps := maps_of(run)) is not None]
    fitting = [maps for maps in read if index_of(maps).key == index.key]
    if not fitting:
        had = ", ".join(sorted({index_of(maps).params["dataset"] for maps in read})) or "none"
        cure = f"--dataset {had}" if len(read) == 1 else "a run of a part-informed recipe first"
        raise ReidpipeError(
            f"found no run among {', '.join(asked.runs)} that read label maps of "
            f"{index.params['dataset']} (they read those of: {had}); expected one; type {cure}"
        )
    return [
        Step(
            "cells",
            {},
            {
                "evaluation": evaluation,
                "model": evaluation.inputs["model"],
                "index": evaluation.inputs["index"],
                "maps": fitting[0],
            },
        )
        for evaluation in asked.evaluations
    ]


def draw(asked: Asked) -> Drawn:
    """Points by t-SNE: colours are groups of parts, marks identities."""
    found, numbers, protocol = {}, [], ""
    for name, step in zip(asked.runs, _cells(asked), strict=True):
        folder = asked.workspace.folder(step)
        about = read_json(folder / ABOUT)
        if "why" in about:
            raise ReidpipeError(
                f"found {name} without cells to draw: {about['why']}; expected a trunk with a map "
                "of the whole image and two body parts on the images; leave that run out"
            )
        shown = read_arrays(
            folder / POINTS, {"points": ("f", 2), "groups": ("i", 1), "pids": ("i", 1)}
        )
        if len({len(values) for values in shown.values()}) != 1 or len(shown) < 3:
            raise DamagedFile(
                f"found no cells of one number in {folder / POINTS}; expected points, groups and "
                "pids; type reidpipe cache verify --repair"
            )
        found[name] = (shown["points"], shown["groups"].tolist(), shown["pids"].tolist())
        numbers.append(f"{name} {about['silhouette']:.3f}")
        protocol = about["protocol"]
    told = (
        "Features of cells of the last map by t-SNE on cosine distances; colour: body part, mark: "
        f"identity. Mean silhouette of the parts: {', '.join(numbers)}. {protocol} "
    )
    figure = scatter.parts(found, GROUPS, width=asked.width)
    return Drawn(figure, told + f"Runs: {conditions(asked.views)}")
