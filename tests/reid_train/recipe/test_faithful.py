"""What recipes do otherwise than their authors: everything that was ever found is mended, or is
listed in the recipe's own ``deviations``. Numbers are those of the audit of the training code.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reid_train.classify.recipe import load_learner
from reid_train.figures.work import _provenance
from reid_train.models.heads import CosineSoftmax
from reid_train.models.maple import MapleLearner
from reid_train.recipe.loading import list_recipes, load_recipe
from reid_train.recipe.settings import deviations
from reid_train.recipe.stages import build_schedule

CLIP_REID = [name for name in list_recipes() if name.startswith(("clip-reid", "baseline-"))]
STARTS = {
    "baseline-vit": "openai",
    "baseline-rn50": "openai",
    "resnet50": "imagenet",
    "ianet": "imagenet",
}
# Deviation -> recipes by how they begin, words of the sentence that tells it.
LISTED = {
    9: (("baseline-vit", "baseline-rn50", "clip-reid-rn50", "clip-reid-vit", "pcl-clip"), "bf16"),
    13: (("pcl-clip-usl",), "last epoch is kept"),
    14: (("baseline-vit", "baseline-rn50", "clip-reid-rn50", "clip-reid-vit"), "largest number"),
    15: (("resnet50", "ianet"), "never holds an identity twice"),
    16: (("resnet50", "ianet"), "half as often on the outermost"),
    17: (("resnet50", "ianet", "pcl-clip"), "where theirs tries 100"),
    18: (("clip-reid-rn50", "clip-reid-vit", "pi-vl-rn50", "pi-vl-vit"), "float32 features"),
    19: (("clip-reid-rn50", "clip-reid-vit", "pi-vl-rn50", "pi-vl-vit"), "no empty last batch"),
    20: (("baseline-vit", "baseline-rn50", "clip-reid-rn50", "clip-reid-vit"), "on veri776"),
    21: (("pcl-clip-veri",), "no configuration for vehicles"),
}
TINY = ("-tiny", "-lite", "-plus")


def published(prefixes: tuple[str, ...]) -> list[str]:
    """Recipes of a paper that begin so."""
    return [n for n in list_recipes() if n.startswith(prefixes) and not any(t in n for t in TINY)]


def test_recipes_begin_where_their_papers_do():  # 1
    for prefix, start in STARTS.items():
        found = published((prefix,))
        assert found and all(load_recipe(name).model.pretrained == start for name in found)


@pytest.mark.parametrize("number", LISTED)
def test_what_is_left_is_listed(number: int):
    prefixes, words = LISTED[number]
    for name in published(prefixes):
        assert any(words in told for told in load_recipe(name).deviations), name


def test_what_is_left_of_the_prompt_learners_is_listed():  # 11
    for name in ("coop", "cocoop", "maple"):
        assert any("train half ones" in told for told in load_learner(name).deviations)
    assert load_learner("coop-tiny").deviations == ()


def test_prompts_follow_the_published_curve(golden):  # 10
    recorded = golden("clip_losses.npz")
    for name in list_recipes():
        stages = load_recipe(name).prompt_stages
        if not stages or any(t in name for t in TINY):
            continue
        stage = stages[0]
        curve = build_schedule(stage)
        rates = [stage.optimiser.lr * curve(e, 0, 1, stage.epochs) for e in range(stage.epochs)]
        expected = recorded[f"lr_stage1_epochs1_{stage.epochs}"]
        assert rates == pytest.approx(expected, rel=1e-12), name


def test_erased_rectangles_are_drawn_as_published():  # 6
    for name in published(("pcl-clip", "resnet50", "ianet")):
        augment = load_recipe(name).image_stages[0].data.augment  # type: ignore[union-attr]
        assert augment.erase_linear, name
        assert augment.erase_aspect == pytest.approx((0.3, 1 / 0.3), rel=1e-6)


def test_clusters_are_drawn_across_cameras():  # 5
    for name in published(("pcl-clip-usl",)):
        data = load_recipe(name).image_stages[0].data
        assert getattr(data, "draw", None) == "other-cameras"


def test_class_vectors_begin_at_length_one_in_every_number():  # 8
    for name in published(("bignet", "slicenet")):
        assert load_recipe(name).model.heads["identity"].options == {"std": 1.0}
    for std, expected in ((1.0, 1.0), (None, 128**-0.5)):
        weights = CosineSoftmax(dim=128, classes=500, std=std).cosine_weights.detach()
        assert float(weights.std()) == pytest.approx(expected, rel=0.02)


def test_deep_projections_begin_as_copies():  # 12
    learner = MapleLearner(width=8, image_width=12, n_ctx=2, depth=4)
    weights = [p for name, p in learner.named_parameters() if name.endswith("weight")][1:]
    assert len(weights) == 3 and all(torch.equal(weight, weights[0]) for weight in weights)
    assert len({id(weight) for weight in weights}) == 3


def test_simple_reids_figures_name_the_images_it_trained_on():  # 7
    for name in published(("resnet50",)):
        for given in load_recipe(name).expected:
            assert given.dataset != "msmt17" or given.train == "msmt17:v1-strict", name


def test_vehicles_have_a_recipe_with_camera_and_view():  # 22
    options = load_recipe("clip-reid-vit-sie-olp-veri").model.options
    assert options["cameras"] == options["views"] == "dataset"
    assert options["stride"] == 12 and options["sie_coefficient"] == 1.0


def test_what_is_done_otherwise_stands_in_the_report():
    recipe = load_recipe("pcl-clip-veri")
    assert deviations(recipe.plain()) == recipe.deviations != ()
    assert deviations({**recipe.plain(), "name": "somebody-elses"}) == ()
    told = _provenance({"recipe": {"name": "pcl-clip-veri"}, "dataset": "veri776"}, [], Path())
    assert "no configuration for vehicles" in told["otherwise than its authors"]
