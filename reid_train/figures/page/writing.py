"""All sections as one HTML page that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pipeline.artifacts import atomic
from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.page.cameras import cameras
from reid_train.figures.page.card import dataset
from reid_train.figures.page.curves import rates, training
from reid_train.figures.page.parts import activations, cells, label_maps
from reid_train.figures.page.provenance import provenance
from reid_train.figures.page.queries import confusions, differences, hardest
from reid_train.figures.page.section import Section
from reid_train.figures.page.similarity import features, thresholds
from reid_train.figures.page.summary import summary
from reid_train.figures.page.verdict import told
from reid_train.figures.page.views import Comparison, RunView


def write_report(
    path: Path,
    runs: Sequence[RunView],
    title: str,
    comparison: Comparison | None = None,
    date: str | None = None,
) -> Path:
    """Write the page: results with their conditions, curves, dataset, single queries, cameras,
    features, maps, provenance. date: shown as it is; None: the page has none.

    All pictures are in the page; it loads nothing and has no script. It shows images of the
    dataset: where the licence forbids redistribution it must stay on this machine, and the page
    says so. Of withdrawn datasets it shows cards with the images' keys.
    Raises ReidpipeError without a run or when an evaluation lacks a file.
    """
    if not runs:
        raise ReidpipeError("found no run to report; expected at least one; type reidpipe eval")
    withheld = sorted({view.metrics["dataset"] for view in runs if not view.pictures.allowed})
    found = sections(runs, comparison or Comparison())
    atomic.write_text(path, render(found, title, date, withheld))
    return path


def render(found: Sequence[Section], title: str, date: str | None, withheld: Sequence[str]) -> str:
    """The text of a page of these sections. withheld: datasets whose images are not shown."""
    page = _environment().get_template("page.html")
    return page.render(title=title, date=date, withheld=withheld, sections=found)


def sections(runs: Sequence[RunView], comparison: Comparison) -> list[Section]:
    """In the order of the page; what a comparison of these runs has nothing for is left out."""
    found = [
        summary(runs),
        rates(runs),
        training(runs),
        dataset(runs),
        differences(runs),
        hardest(runs),
        confusions(runs),
        cameras(runs),
        thresholds(runs),
        features(runs),
        label_maps(runs),
        activations(runs, comparison),
        cells(comparison),
        provenance(runs),
    ]
    return [section for section in found if section is not None]


def _environment() -> Any:
    import jinja2

    folder = resources.files("reid_train.figures.page") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    environment.filters["range"] = lambda pair: f"{100 * pair[0]:.1f} to {100 * pair[1]:.1f}"
    environment.filters["p"] = lambda p: told(p).removeprefix("p ").removeprefix("= ")
    return environment
