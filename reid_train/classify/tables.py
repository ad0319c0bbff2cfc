"""What ``classify`` compares, and the tables of the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from pipeline.artifacts.checked import read_json
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.publishing import Column, Table
from pipeline.terminal.tables import format_table
from reid_train.classify.recipe import Training, list_learners, load_learner
from reid_train.classify.steps import Classes
from reid_train.data.class_rows import ClassRows, read_classes
from reid_train.data.shots import harmonic_mean
from reid_train.evaluation.spread import percent, spread
from reid_train.models.clip.tiny import sizes as clip_tiny

# --split people: images ranked by words, and by images.
# What their figures depend on (``reid_train.classify.people``).
RANKED_HOW = (
    "protocol: text - each class's prompt against all test images by the classifier's logits, "
    "nothing excluded; image - queries against the gallery, excluded same-camera, no flip, "
    "cosine distance"
)
RANKED = ("text R1", "text R5", "text R10", "text mAP", "image R1", "image mAP")


@dataclass(frozen=True)
class Line:
    """One line of a table: a recipe on a dataset, and per seed its accuracies by column.

    shots and seeds are None and () where nothing was trained. targets: columns that the average
    of a transfer is over.
    """

    recipe: str
    dataset: str
    split: str
    shots: int | None
    seeds: tuple[int, ...]
    accuracies: tuple[Mapping[str, Step], ...]
    targets: tuple[str, ...] = ()


def results(workspace: Workspace, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One mapping per line: its figures (0..1) with mean and spread over the seeds, numbers trained
    and their share. With several datasets base-new gets the average of each recipe beneath.
    """
    rows = [_result(workspace, line) for line in lines]
    return rows + (_averages(rows) if lines[0].split == "base-new" else [])


def _result(workspace: Workspace, line: Line) -> dict[str, Any]:
    found = [
        {name: read_json(workspace.folder(step) / f"{step.name}.json") for name, step in of.items()}
        for of in line.accuracies
    ]
    if line.split == "people":
        values = {name: [_ranked(seed["people"], name) for seed in found] for name in RANKED}
    else:
        columns = line.accuracies[0]
        values = {name: [seed[name]["accuracy"] for seed in found] for name in columns}
    figures = {column: spread(of_seeds) for column, of_seeds in values.items()}
    if line.split == "base-new":
        figures["H"] = _harmonic(values["base"], values["new"])
    elif line.targets:
        per_seed = zip(*(values[target] for target in line.targets), strict=True)
        figures["average"] = spread([mean(of_targets) for of_targets in per_seed])
    about = next(iter(found[0].values()))
    return {
        "recipe": line.recipe,
        "dataset": line.dataset,
        "split": line.split,
        "shots": line.shots,
        "seeds": list(line.seeds),
        "figures": figures,
        "parameters": about["parameters"],
        "share": about["share"],
        "tests": {
            column: {name: test[name] for name in ("dataset", "classes", "images")}
            for column, test in found[0].items()
        },
    }


def _ranked(report: Mapping[str, Any], column: str) -> float:
    query, measure = column.split()
    found = report[query]
    return found["mAP"] if measure == "mAP" else found["cmc"][measure.removeprefix("R")]


def _harmonic(base: Sequence[float], new: Sequence[float]) -> dict[str, Any]:
    """Of the averages over seeds, as the authors do; its spread is that of the seeds' own."""
    each = [harmonic_mean(b, n) for b, n in zip(base, new, strict=True)]
    deviation = stdev(each) if len(each) > 1 else None
    return {
        "mean": harmonic_mean(mean(base), mean(new)),
        "std": deviation,
        "n": len(each),
        "values": each,
    }


def _averages(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per recipe the average over datasets: base and new first, H of these averages."""
    found = []
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        members = [row for row in rows if row["recipe"] == recipe]
        if len(members) < 2:
            continue
        base, new = (mean(m["figures"][part]["mean"] for m in members) for part in ("base", "new"))
        values = {"base": base, "new": new, "H": harmonic_mean(base, new)}
        figures = {
            name: {"mean": value, "std": None, "n": len(members), "values": [value]}
            for name, value in values.items()
        }
        found.append({**members[0], "dataset": "average", "figures": figures, "tests": {}})
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Percent, mean ± sample standard deviation over the seeds."""
    columns = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    shown = [
        {
            "recipe": row["recipe"],
            "dataset": row["dataset"],
            "shots": row["shots"],
            "seeds": len(row["seeds"]) or None,
            **{name: percent(figure) for name, figure in row["figures"].items()},
            "parameters": f"{row['parameters']:,}",
            "% of CLIP": f"{100 * row['share']:.4f}",
        }
        for row in rows
    ]
    return format_table(
        shown, ["recipe", "dataset", "shots", "seeds", *columns, "parameters", "% of CLIP"]
    )


def publication(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of ``results`` as a table for a paper; the best of each dataset is marked."""
    columns = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    counts = [Column(name, "count") for name in ("shots", "seeds", "parameters")]
    return Table(
        [
            Column("recipe"), Column("dataset"), *counts[:2],
            *(Column(name, "percent", best=True) for name in columns), counts[2],
        ],
        [
            {**row, "seeds": len(row["seeds"]) or None, **row["figures"]}
            for row in rows
        ],
        [_protocol(row) for row in rows],
        compared=("dataset",),
        about="Classification of images by class name",
    )  # fmt: skip


def _protocol(row: Mapping[str, Any]) -> str:
    """What the figures of a row depend on."""
    if not row["tests"]:
        return f"split {row['split']}, average over the datasets"
    learnt = f", {row['shots']} images per class learnt from" if row["shots"] else ""
    tested = "; ".join(
        f"{column} of {test['dataset']}: {test['classes']} classes, {test['images']} images"
        for column, test in row["tests"].items()
    )
    return f"split {row['split']}{learnt}, tested on {tested}"


def read_table(workspace: Workspace, classes: Classes) -> ClassRows:
    """The images of classes whose index exists, by split. Errors as ``read_classes``."""
    return read_classes(workspace.folder(classes.index), **classes.params)


def split_lines(workspace: Workspace, datasets: Iterable[Classes]) -> list[str]:
    """Where the splits of each dataset come from: the official file, or a draw of our own."""
    lines = []
    for classes in {classes.dataset: classes for classes in datasets}.values():
        step = classes.index
        about, dataset = workspace.provenance(step)["summary"], step.params["dataset"]
        notes = about.get("notes") or []
        if classes.own:
            found = read_table(workspace, classes)
            counts = f"{len(found.train)} images to train on, {len(found.test)} to test on"
            lines.append(f"split of {classes.dataset}: your own, {counts}")
            lines += [f"split of {classes.dataset}: {note}" for note in found.notes]
            continue
        if "layout" not in about:
            lines.append(f"split of {dataset}: its own, training and test people are disjoint")
        elif notes:
            lines += [f"split of {dataset}: NOT the published one: {note}" for note in notes]
        else:
            lines.append(f"split of {dataset}: {about['layout']}, as published")
    return lines


def learner_rows(parameters: bool) -> list[dict[str, Any]]:
    """The recipes of prompt learners as rows of ``reidpipe recipes``, as they are for base-new;
    with ``parameters`` (imports torch) the numbers they train on the recipe's own CLIP.
    """
    rows = []
    for name in list_learners():
        recipe = load_learner(name, "base-new")
        tiny = recipe.pretrained in clip_tiny.FILES
        size = clip_tiny.INPUT if tiny else (224, 224)
        row: dict[str, Any] = {
            "recipe": name,
            "input": "x".join(str(side) for side in size),
            "stages": "-" if recipe.training is None else f"classify ({_epochs(recipe.training)})",
            "about": recipe.summary,
            "citation": list(recipe.citation),
        }
        if parameters:
            from reid_train.classify.classifier import count_learner

            sizes = {
                "width": clip_tiny.TEXT["width"],
                "image_width": clip_tiny.VIT["width"],
                "dim": clip_tiny.TEXT["output_dim"],
            }
            depth = {} if recipe.depth is None else {"depth": recipe.depth}
            row["parameters"] = count_learner(
                recipe.learner, n_ctx=recipe.n_ctx, **depth, **(sizes if tiny else {})
            )
        rows.append(row)
    return rows


def _epochs(training: Training) -> str:
    if isinstance(training.epochs, int):
        return str(training.epochs)
    return f"{min(training.epochs.values())}-{max(training.epochs.values())}"
