"""In which conditions a training and its evaluation differ from those of an expected result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.artifacts.epochs import length, trained
from pipeline.artifacts.requests import earlier_stages
from pipeline.artifacts.steps import Step, leaves
from pipeline.datasets.catalogue import defined
from reid_train.evaluation.compared import EMBEDDING
from reid_train.evaluation.results import distance_of
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.recipe.loading import from_plain, load_recipe
from reid_train.recipe.schema import Expected, Recipe
from reid_train.recipe.steps import Start

# What the name of a start says where it is not that of weights.
STARTS = {"file": "of a file", "run": "of another run"}
# Said by conditions of their own, or names.
APART = ("name", "test.", "model.pretrained", "model.teacher")


def differences(known: Recipe, given: Expected, evaluation: Step, tested: str) -> list[str]:
    """A sentence per condition: data, weights, label maps, values of the recipe, evaluation.

    known: the packaged recipe. tested: the dataset of the evaluation, ``id`` or ``id:variant``.
    """
    model = trained(evaluation.inputs["model"])
    if given.settings:
        known = load_recipe(known.name, dict(text.split("=", 1) for text in given.settings))
    source = str(model.inputs["index"].params["dataset"])
    return [
        *_data("tested on", tested, given.dataset),
        *_data("trained on", source, given.train or given.dataset),
        *_weights(model, known, given),
        *_maps(model, given),
        *_epoch(evaluation),
        *_values(model, known),
        *_evaluation(evaluation, known, given),
    ]


def _epoch(evaluation: Step) -> Iterator[str]:
    kept = evaluation.inputs["model"]
    if kept.name == "epoch":
        yield f"epoch {kept.params['epoch']} (there {length(kept)})"


def _data(what: str, here: str, there: str) -> Iterator[str]:
    if _variant(here) != _variant(there):
        yield f"{what} {here} (there {there})"


def _variant(dataset: str) -> str:
    """``id:variant`` also where the variant is the default one, and unsaid."""
    if ":" in dataset or (manifest := defined(dataset, None)) is None or not manifest.variant:
        return dataset
    return f"{dataset}:{manifest.variant}"


def _weights(model: Step, known: Recipe, given: Expected) -> Iterator[str]:
    """Of the image encoder; a student's teacher is a prompt stage's."""
    expected = given.weights or known.model.pretrained
    started = str(model.params["pretrained"])
    if expected in clip_tiny.FILES:
        same = Start.of(clip_tiny.FILES[expected]).weights["pretrained"]
        here = expected if model.weights.get("pretrained") == same else started
    else:
        here = started
    if here != expected:
        yield f"weights {STARTS.get(here, here)} (there {expected})"
    if known.model.teacher is not None:
        for step in earlier_stages(model)[:1]:
            if (taught := str(step.params["pretrained"])) != known.model.teacher.pretrained:
                yield f"teacher's weights {taught} (there {known.model.teacher.pretrained})"


def _maps(model: Step, given: Expected) -> Iterator[str]:
    steps = [model, *([model.inputs["text"]] if "text" in model.inputs else [])]
    parsers = [str(step.inputs["maps"].params["model"]) for step in steps if "maps" in step.inputs]
    if given.parser and parsers and parsers[0] != given.parser:
        yield f"label maps by {parsers[0]} (there {given.parser})"


def _values(model: Step, known: Recipe) -> Iterator[str]:
    """Every value of the recipe that is another one than the packaged recipe's."""
    run = dict(model.params["recipe"])
    # Prompt stages are steps of their own, and so is the teacher.
    run["stages"] = [*(step.params["stage"] for step in earlier_stages(model)), *run["stages"]]
    if "text" in model.inputs:
        run["model"] = {**run["model"], "teacher": known.plain()["model"]["teacher"]}
    yield from changed(from_plain(run).plain(), known.plain(), apart=APART)


def changed(
    plain: Mapping[str, Any], other: Mapping[str, Any], *, apart: tuple[str, ...] = ()
) -> Iterator[str]:
    """Every value of a recipe's plain form that is another one in ``other``, by its dotted path;
    but for paths that begin like one of ``apart``.
    """
    here, there = dict(leaves(plain)), dict(leaves(other))
    for path in [*there, *(path for path in here if path not in there)]:
        if not path.startswith(apart) and here.get(path) != there.get(path):
            yield f"{path} {_text(here.get(path))} (there {_text(there.get(path))})"


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _evaluation(evaluation: Step, known: Recipe, given: Expected) -> Iterator[str]:
    params, own = evaluation.params, distance_of(evaluation.inputs["model"])
    for what, here, there in (
        ("flip", bool(params["flip"]), known.test.flip),
        ("distance", params.get("distance") or own, known.test.distance),
        ("feature", params.get("feature", EMBEDDING), EMBEDDING),
    ):
        if here != there:
            yield f"{what} {_word(here)} (there {_word(there)})"
    index = evaluation.inputs["index"].params
    manifest = defined(str(index["dataset"]), index.get("definition"))
    rules = manifest.protocols if manifest is not None else ()
    for rule in rules:
        if rule.name == params["protocol"] and rule.exclude != params["exclude"]:
            yield f"excluded {params['exclude']} (there {rule.exclude})"
    if given.rerank is not None and params["rerank"]:
        here = tuple(params["rerank"][name] for name in ("k1", "k2", "lam"))
        if here != tuple(given.rerank):
            yield f"re-ranked with {_numbers(here)} (there {_numbers(given.rerank)})"


def _word(value: bool | str) -> str:
    return value if isinstance(value, str) else "yes" if value else "no"


def _numbers(values: tuple[Any, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
