"""Activation maps of some queries, a row per run."""

from __future__ import annotations

from typing import Any

from pipeline.artifacts.arrays import read_arrays
from pipeline.artifacts.checked import read_json
from pipeline.artifacts.steps import Step
from pipeline.images.pixels import resize
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train.figures.activation_maps import tint
from reid_train.figures.charts.grid import Cell, grid
from reid_train.figures.paper.asked import Asked, Drawn
from reid_train.figures.paper.captions import conditions, names
from reid_train.figures.paper.lists import choice

MAPS, ABOUT = "activations.npz", "activations.json"
QUERIES = {"one": 4, "two": 8}
ORANGE = (230, 159, 0)  # of the palette; seen on grey with any colour vision
_METHODS = {
    "gradient": "gradient times activation of the last map for the query's own identity, whose "
    "row is its gallery images' mean feature less that of all identities",
    "occlusion": "loss of cosine to the mean feature of its identity, less that of all, when a "
    "region is painted over, as no map of the whole image leads to what is compared",
}


def steps(asked: Asked) -> list[Step]:
    """The evaluations, and a run's maps of the queries each."""
    return [*asked.evaluations, *(step(evaluation, asked) for evaluation in asked.evaluations)]


def step(evaluation: Step, asked: Asked) -> Step:
    """The activation maps of one run's queries."""
    queries: Any = asked.queries or QUERIES[asked.width]
    given = queries if isinstance(queries, int) else list(dict.fromkeys(queries))
    inputs = {name: evaluation.inputs[name] for name in ("model", "index")}
    return Step("activations", {"queries": given}, {"evaluation": evaluation, **inputs})


def draw(asked: Asked) -> Drawn:
    """A row of queries, and below it where every run looks."""
    shown: list[list[Cell]] = []
    methods: dict[str, list[str]] = {}
    keys: list[str] = []
    for view, evaluation in zip(asked.views, asked.evaluations, strict=True):
        folder = asked.workspace.folder(step(evaluation, asked))
        arrays = read_arrays(folder / MAPS, {"keys": ("U", 1), "maps": ("f", 3)})
        if len(arrays) < 2 or len(arrays["keys"]) != len(arrays["maps"]):
            raise DamagedFile(
                f"found no map of each query in {folder / MAPS}; expected keys and maps; type "
                "reidpipe cache verify --repair"
            )
        keys, found = arrays["keys"].tolist(), arrays["maps"]
        if not keys:
            raise ReidpipeError(
                f"found no query of {view.metrics['dataset']} that counts; expected one with a "
                "right match in the gallery; type another --protocol"
            )
        methods.setdefault(read_json(folder / ABOUT)["method"], []).append(view.name)
        pictures = [resize(view.pictures[key], (256, 128), "bicubic") for key in keys]
        if not shown:
            shown.append([Cell(picture) for picture in pictures])
        tinted = zip(pictures, found, strict=True)
        shown.append([Cell(tint(p, m, opacity=0.75, colour=ORANGE)) for p, m in tinted])
    pids = [asked.views[0].pictures.rows[key].pid for key in keys]
    figure = grid(
        shown,
        row_names=["query", *(view.name for view in asked.views)],
        column_names=[f"identity {pid}" for pid in pids],
        width=asked.width,
    )
    how = "; ".join(f"{names(who)}: {_METHODS[method]}" for method, who in methods.items())
    told = f"Regions that speak for a query's identity, in orange; {how}; {choice(asked, keys)}; "
    return Drawn(figure, told + conditions(asked.views))
