"""Expected results: what the recipes say, and measured figures beside them by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.artifacts import requests
from pipeline.artifacts.steps import Step
from pipeline.datasets.catalogue import load_manifest
from reid_train.classify.expected import beside_lines
from reid_train.classify.recipe import list_learners, load_learner
from reid_train.classify.steps import Classes, Clip
from reid_train.recipe import steps
from reid_train.recipe.expected import Beside, beside, lines, measures, rows
from reid_train.recipe.loading import list_recipes, load_recipe
from reid_train.recipe.schema import Expected

RECIPES = [name for name in list_recipes() if load_recipe(name).expected]


def entry(**given: Any) -> Expected:
    return Expected(**{"dataset": "col780", "protocol": "standard", "source": "T", **given})


@pytest.mark.parametrize("name", RECIPES)
def test_every_expected_result_is_of_something_there_is(name: str):
    recipe = load_recipe(name)
    for given in recipe.expected:
        manifest = load_manifest(given.dataset)
        assert given.protocol in [protocol.name for protocol in manifest.protocols]
        assert not given.train or load_manifest(given.train).id == manifest.id
        assert bool(given.parser) <= recipe.reads_maps
        for text in given.settings:  # a key that does not exist is refused
            load_recipe(name, dict([text.split("=", 1)]))
        assert all(0.01 < value <= 1 for value in given.figures_by_name().values()), "percent"


@pytest.mark.parametrize("name", [n for n in list_learners() if load_learner(n).expected])
def test_h_is_the_harmonic_mean_of_base_and_new(name: str):
    for given in load_learner(name).expected:
        assert load_manifest(given.dataset)
        if given.split == "base-new":
            base, new, mean = (given.figures[column] for column in ("base", "new", "H"))
            # Of figures in percent with two decimals, ours with one.
            rounding = 1e-3 if given.own else 1e-4
            assert 2 * base * new / (base + new) == pytest.approx(mean, abs=rounding)


def test_papers_on_real_data_have_their_figures():
    """The recipes of the reading list, and nothing for what nobody published."""
    without = {name for name in list_recipes() if not load_recipe(name).expected}
    assert without == {
        "clip-reid-tiny", "pi-vl-tiny", "pi-vl-tiny-h", "pi-vl-tiny-p", "pi-vl-tiny-w",
        "ianet-triplet", "ianet-contrastive", "ianet-cosface", "pi-vl-vit-h", "pi-vl-vit-p",
        "distill-tiny-none", "distill-tiny-clip-reid", "distill-tiny-pi-vl",
        "distill-tiny-pi-vl-joint",
        "distill-lite-none", "distill-lite-clip-reid", "distill-lite-pi-vl", "distill-lite-pi-vl-h",
        "distill-lite-pi-vl-p",
    }  # fmt: skip
    vit = {e.dataset: (e.mAP, e.rank1) for e in load_recipe("clip-reid-vit").expected}
    assert vit["msmt17"] == (0.734, 0.887) and vit["market1501"] == (0.896, 0.955)


def test_a_recipe_does_not_expect_what_its_base_does(tmp_path: Path):
    own = tmp_path / "own.yaml"
    own.write_text("base: clip-reid-vit\nset: {stages.image.epochs: 3}\n")
    assert load_recipe(own).expected == () and load_recipe(own).deviations != ()


@pytest.mark.parametrize(
    "wrong",
    [{}, {"mAP": 73.4}, {"mAP": 0.5, "spread": {"Rank-1": 0.1}}, {"mAP": 0.5, "settings": ["x"]}],
    ids=["no figure", "percent", "spread of nothing", "no setting"],
)
def test_wrong_entries_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        entry(**wrong)


def test_a_difference_is_seen_in_the_seeds_then_in_the_source_then_in_the_interval():
    given = entry(mAP=0.7, rank1=0.5, spread={"mAP": 0.02}, seeds=5)
    first, second = measures(given, {"mAP": [0.5, 0.7], "Rank-1": [0.5, 0.5]}, {})
    # Mean 0.6, sample standard deviation sqrt(0.02).
    assert first.difference == pytest.approx(-0.1)
    assert first.deviations == pytest.approx(-0.1 / 0.02**0.5)
    assert second.std == 0 and second.deviations is None
    intervals = {"mAP": [0.1, 0.9], "Rank-1": [0.51, 0.6]}
    first, second = measures(given, {"mAP": [0.73], "Rank-1": [0.55]}, intervals)
    assert first.deviations == pytest.approx(1.5) and first.inside is None
    assert second.deviations is None and second.inside is False
    assert measures(given, {"mAP": [0.7]}, {})[0].name == "mAP", "what was not measured is left out"


def evaluated(
    name: str,
    dataset: str,
    *,
    tested: str | None = None,
    pretrained: str = "openai",
    settings: dict[str, str] | None = None,
    parser: str | None = None,
    **options: Any,
) -> Step:
    index = Step("index", {"dataset": dataset})
    maps = requests.maps(index, model=parser, weights=None) if parser else None
    recipe = load_recipe(name, settings or {})
    model = steps.model(
        index, recipe, seed=0, pretrained=pretrained, teacher="openai", label_maps=maps
    )
    target = Step("index", {"dataset": tested}) if tested else index
    given = {"protocol": "standard", "exclude": "same-camera", "flip": recipe.test.flip, **options}
    return requests.evaluation(model, target, **given)


def metrics(dataset: str, mAP: float = 0.86, rank1: float = 0.93, **more: Any) -> dict[str, Any]:
    figures = {"mAP": mAP, "mINP": 0.5, "cmc": {"1": rank1, "5": 0.97, "10": 0.98}}
    return {"dataset": dataset, "protocol": "standard", **figures, "rerank": None, **more}


def test_the_lines_of_one_evaluation():
    found = beside("baseline-vit", evaluated("baseline-vit", "market1501"), [metrics("market1501")])
    source = (
        "Li, Sun & Li, CLIP-ReID, AAAI 2023, comparison on person datasets, remembered, not "
        "checked against it"
    )
    assert lines(found) == [
        f"published: mAP 86.4, Rank-1 93.3 ({source}); measured 86.0, 93.0: -0.4, -0.3",
        "  no spread is known; several seeds give one",
        "  conditions that differ: none that is known; the recipe's own deviations: "
        "reidpipe recipes baseline-vit",
    ]
    (row,) = rows(found)
    assert row["measures"]["mAP"]["difference"] == pytest.approx(-0.004)
    assert row["unchecked"] is True and row["conditions"] == []
    held = metrics("market1501", intervals={"mAP": [0.85, 0.87], "Rank-1": [0.92, 0.93]})
    found = beside("baseline-vit", evaluated("baseline-vit", "market1501"), [held])
    assert lines(found)[1] == (
        "  in this evaluation's 95 % interval: mAP inside 85.0 to 87.0, Rank-1 outside 92.0 to 93.0"
    )


DIFFERENT: list[tuple[dict[str, Any], list[str]]] = [
    ({"pretrained": "none"}, ["weights none (there openai)"]),
    ({"settings": {"stages.image.epochs": "3"}}, ["stages.image.epochs 3 (there 60)"]),
    ({"settings": {"stages.0.losses.2.options.margin": "0.5"}},
     ["stages.image.losses.2.options.margin 0.5 (there 0.3)"]),
    ({"settings": {"input.size": "[128, 64]"}}, ["input.size [128, 64] (there [256, 128])"]),
    ({"flip": True}, ["flip yes (there no)"]),
    ({"exclude": "none"}, ["excluded none (there same-camera)"]),
    ({"distance": "euclidean"}, ["distance euclidean (there cosine)"]),
    ({"feature": "projected"}, ["feature projected (there embedding)"]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), DIFFERENT, ids=lambda value: str(value)[:30])
def test_every_condition_that_differs_is_told(changes: dict[str, Any], told: list[str]):
    evaluation = evaluated("baseline-vit", "market1501", **changes)
    (found,) = beside("baseline-vit", evaluation, [metrics("market1501")])
    assert list(found.conditions) == told


def test_the_training_split_is_a_condition():
    """Simple-ReID trained on list_train alone, which is a variant here."""
    for dataset, told in (
        ("msmt17:v1-strict", ["tested on msmt17:v1-strict (there msmt17)"]),
        ("msmt17", ["trained on msmt17 (there msmt17:v1-strict)"]),
        ("msmt17:v1", ["trained on msmt17:v1 (there msmt17:v1-strict)"]),
    ):
        evaluation = evaluated("resnet50-triplet", dataset, pretrained="imagenet")
        (found,) = beside("resnet50-triplet", evaluation, [metrics(dataset)])
        assert list(found.conditions) == told


def test_prompt_stages_and_teachers_are_conditions_too():
    changed = {"stages.identity-prompts.epochs": "5", "stages.image.epochs": "6"}
    evaluation = evaluated("clip-reid-vit", "market1501", settings=changed)
    (found,) = beside("clip-reid-vit", evaluation, [metrics("market1501")])
    assert list(found.conditions) == [
        "stages.identity-prompts.epochs 5 (there 120)", "stages.image.epochs 6 (there 60)",
    ]  # fmt: skip
    name = "distill-mobilenet-clip-reid"
    evaluation = evaluated(name, "market1501", pretrained="imagenet")
    assert beside(name, evaluation, [metrics("market1501")])[0].conditions == ()


def test_a_kept_epoch_is_one_of_its_model():
    evaluation = evaluated("baseline-vit", "market1501")
    model = evaluation.inputs["model"]
    # With a version of its own the kind need not be known.
    kept = Step("epoch", {**model.params, "epoch": 40}, {"model": model}, version=1)
    evaluation = replace(evaluation, inputs={**evaluation.inputs, "model": kept})
    (found,) = beside("baseline-vit", evaluation, [metrics("market1501")])
    assert found.conditions == ("epoch 40 (there 60)",)


def test_of_several_results_the_nearest_conditions_are_shown():
    evaluation = evaluated("pi-vl-rn50", "dukemtmc_reid", parser="solider")
    (found,) = beside("pi-vl-rn50", evaluation, [metrics("dukemtmc_reid")])
    assert (found.expected.source, found.conditions) == ("arXiv 2308.02738 v1 Table 4", ())
    evaluation = evaluated("pi-vl-rn50", "dukemtmc_reid", parser="schp-tiny")
    found = beside("pi-vl-rn50", evaluation, [metrics("dukemtmc_reid")])
    assert len(found) == 4, "none is nearer than another"
    assert found[0].conditions[0] == "label maps by schp-tiny (there schp)"
    settings = {
        "stages.image.hooks.0.options.eps": "0.4", "stages.image.losses.0.options.hard": "true",
    }  # fmt: skip
    evaluation = evaluated("pcl-clip-usl", "market1501", settings=settings)
    (best,) = beside("pcl-clip-usl", evaluation, [metrics("market1501")])
    assert best.expected.figures_by_name()["mAP"] == 0.902 and best.conditions == ()


def test_re_ranked_figures_have_results_of_their_own():
    rerank = {"k1": 20, "k2": 6, "lam": 0.3}
    evaluation = evaluated("clip-reid-vit-sie-olp", "msmt17", rerank=rerank)
    ranked = {**rerank, **metrics("msmt17", mAP=0.85, rank1=0.9)}
    found = beside("clip-reid-vit-sie-olp", evaluation, [metrics("msmt17", rerank=ranked)])
    assert [each.about["reranked"] for each in found] == [False, False, True]
    assert found[-1].measures[0].measured == 0.85
    assert found[-1].conditions == ("re-ranked with 20, 6, 0.3 (there 50, 15, 0.3)",)


@pytest.mark.parametrize(
    ("name", "dataset", "tested"),
    [
        ("baseline-vit", "market1501", "msmt17"),
        ("baseline-vit", "col780", None),
        ("ianet-triplet", "market1501", None),
    ],
    ids=["trained elsewhere", "no such dataset", "nothing published"],
)
def test_nothing_is_shown_where_nothing_is_expected(name: str, dataset: str, tested: str | None):
    evaluation = evaluated(name, dataset, tested=tested)
    assert beside(name, evaluation, [metrics(tested or dataset)]) == []
    assert beside("my-own", evaluation, [metrics("market1501")]) == []
    other = metrics("market1501") | {"protocol": "course"}
    assert beside("baseline-vit", evaluated("baseline-vit", "market1501"), [other]) == []


def learners(row: dict[str, Any], **recipe: Any) -> list[Beside]:
    used = load_learner(row["recipe"], row["split"], [*recipe.pop("settings", ())])
    classes = Classes(Step("index", {"dataset": row["dataset"]}), row["dataset"], "{}")
    clip = Clip.named(recipe.pop("clip", used.pretrained))
    told = ["split of oxford_pets: NOT the published one: drawn"]
    return beside_lines([row], [used], {used.name: clip}, {row["dataset"]: classes}, told, None)


def test_accuracies_are_compared_column_by_column():
    figures = {
        "base": {"values": [0.93, 0.95]}, "new": {"values": [0.95, 0.96]}, "H": {"values": [0.9]},
    }  # fmt: skip
    row = {
        "recipe": "coop", "dataset": "oxford_pets", "split": "base-new", "shots": 16,
        "seeds": [1, 2], "figures": figures,
    }  # fmt: skip
    (found,) = learners(row)
    assert [m.name for m in found.measures] == ["base", "new", "H"]
    # 0.94 of 0.9367, over a sample standard deviation of sqrt(2)/100.
    assert found.measures[0].deviations == pytest.approx(0.0033 / (2**0.5 / 100))
    assert "93.67, new 95.29, H 94.47" in found.lines()[0]
    assert found.conditions == ("split of oxford_pets: NOT the published one: drawn",)
    (found,) = learners({**row, "shots": 4}, settings=[("training.epochs", "3")], clip="clip-tiny")
    assert found.conditions[:3] == (
        "another CLIP (file; there openai)",
        "4 shots (there 16)",
        "training.epochs 3 (there 100)",
    )
    assert learners({**row, "split": "all"}) == [], "another split is another result"
