"""The accuracies of ``classify`` beside those its recipes expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_train.classify.recipe import Accuracies, LearnerRecipe, list_learners, load_learner
from reid_train.classify.steps import Classes, Clip
from reid_train.recipe.conditions import changed
from reid_train.recipe.expected import Beside, measures


def beside_lines(
    rows: Sequence[Mapping[str, Any]],
    recipes: Sequence[LearnerRecipe],
    clips: Mapping[str, Clip],
    known: Mapping[str, Classes],
    splits: Sequence[str],
    file: Path | None,
) -> list[Beside]:
    """What the recipes expect beside each row of ``tables.results`` whose dataset, split and
    attribute are those of an expected result.

    recipes: as they were used. clips: by recipe. known: the classes by dataset. splits: what was
    told of where each split comes from. file: of a learner that was tested instead of training one.
    """
    found = []
    for row in rows:
        if row["recipe"] not in list_learners() or row["dataset"] not in known:
            continue
        packaged = load_learner(row["recipe"], row["split"])
        used = next(recipe for recipe in recipes if recipe.name == row["recipe"])
        for given in packaged.expected:
            if not _same(given, row, known[row["dataset"]]):
                continue
            values = {name: figure["values"] for name, figure in row["figures"].items()}
            compared = measures(given, values, {}) if set(values) & set(given.figures) else ()
            if compared:
                conditions = _conditions(given, row, packaged, used, clips[used.name], file)
                apart = [text for text in splits if "NOT the published one" in text]
                found.append(
                    Beside(
                        used.name,
                        given,
                        compared,
                        (*conditions, *apart),
                        {name: row[name] for name in ("dataset", "split", "shots")},
                        label=f"{used.name} on {row['dataset']}",
                        varies=bool(row["seeds"]),
                    )
                )
    return found


def _same(given: Accuracies, row: Mapping[str, Any], classes: Classes) -> bool:
    """Whether the row is of the same classes: another attribute makes others."""
    return (given.dataset, given.split, given.attribute) == (
        row["dataset"],
        row["split"],
        classes.attribute or "",
    )


def _conditions(
    given: Accuracies,
    row: Mapping[str, Any],
    packaged: LearnerRecipe,
    used: LearnerRecipe,
    clip: Clip,
    file: Path | None,
) -> Iterator[str]:
    if clip != Clip.named(packaged.pretrained):
        yield f"another CLIP ({clip.params['pretrained']}; there {packaged.pretrained})"
    if file is not None:
        yield f"the learner of {file.name}"
    elif row["shots"] != given.shots:
        yield f"{row['shots']} shots (there {given.shots})"
    here, there = (_as_used(recipe, row) for recipe in (used, packaged))
    yield from changed(here, there, apart=("name",))


def _as_used(recipe: LearnerRecipe, row: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's plain form with the number of epochs that the dataset and the shots lead to."""
    plain = recipe.plain()
    if recipe.training is not None and row["shots"] is not None:
        epochs = recipe.training.epochs_for(row["dataset"].partition(":")[0], row["shots"])
        plain["training"] = {**plain["training"], "epochs": epochs, "dataset_epochs": {}}
    return plain
