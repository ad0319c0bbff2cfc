from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifacts import epochs, requests
from pipeline.artifacts.steps import Step
from reid_train.recipe import steps
from reid_train.recipe.loading import load_recipe

RECIPE = load_recipe("baseline-tiny", {"input.train_filter": "bicubic", "input.size": "[8, 4]"})


def source(seed: int = 0) -> Step:
    return requests.index("mannequins", {"seed": seed})


def test_weights_enter_the_key_by_content_and_not_by_place(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    keys = [
        requests.maps(source(), model="schp", weights=path).key for path in (first, second, other)
    ]
    assert keys[0] == keys[1] != keys[2]
    models = [
        steps.model(source(), RECIPE, seed=0, pretrained=path).key
        for path in (first, second, other, "none", "openai")
    ]
    assert models[0] == models[1] and len(set(models)) == 4


def test_two_models_share_packed_pixels_and_differ_by_seed() -> None:
    one, two = (steps.model(source(), RECIPE, seed=seed) for seed in (1, 2))
    assert one.key != two.key
    assert one.inputs["images"].key == two.inputs["images"].key


def test_an_evaluation_reads_pixels_of_the_test_filter() -> None:
    trained = steps.model(source(), RECIPE, seed=1)
    step = requests.evaluation(trained, source(), protocol="standard", exclude="same-camera")
    assert step.inputs["images"].params == {"size": [8, 4], "filter": "bilinear"}
    other = requests.evaluation(trained, source(1), protocol="standard", exclude="same-camera")
    assert step.key != other.key


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("feature", [None, "global", "global+embedding"])
def test_several_outputs_with_flip_alone_have_another_key(feature: str | None, flip: bool) -> None:
    trained = steps.model(source(), RECIPE, seed=1)
    step = requests.evaluation(
        trained, source(), protocol="p", exclude="none", flip=flip, feature=feature
    )
    before = {"protocol": "p", "exclude": "none", "flip": flip, "rerank": None}
    before |= {"feature": feature} if feature else {}
    changed = flip and feature == "global+embedding"
    assert step.params == {**before, **({"normalised": "after-flip"} if changed else {})}


def test_a_kept_epoch_stands_on_what_its_training_stood_on() -> None:
    maps = requests.maps(source(), model="schp-tiny", weights=None)
    trained = steps.model(source(), load_recipe("pi-vl-tiny"), seed=1, label_maps=maps)
    plain = steps.model(source(), RECIPE, seed=1)
    for model in (trained, epochs.step_of(trained, 3)):
        assert epochs.trained(model) is trained
        assert requests.maps_read(model) is maps
        stages = [stage.params["stage"]["name"] for stage in requests.earlier_stages(model)]
        assert stages == ["identity-prompts", "part-prompts"]
        evaluation = requests.evaluation(model, source(), protocol="standard", exclude="none")
        drawn = requests.report("title", [evaluation]).inputs
        assert {name for name in drawn if name.startswith("stage")} == {"stage0_0", "stage0_1"}
    for model in (plain, epochs.step_of(plain, 3)):
        assert requests.maps_read(model) is None and requests.earlier_stages(model) == []


def test_a_report_shows_the_stages_that_are_kept_and_its_date_is_in_the_key() -> None:
    trained = steps.model(source(), load_recipe("pi-vl-tiny"), seed=1, label_maps=source(2))
    step = requests.evaluation(trained, source(), protocol="standard", exclude="none")
    page = requests.report("title", [step])
    names = [stage.params["stage"]["name"] for stage in requests.earlier_stages(trained)]
    assert names == ["identity-prompts", "part-prompts"]
    assert [page.inputs[f"stage0_{n}"].params["stage"]["name"] for n in (0, 1)] == names
    some = requests.report("title", [step], kept=lambda stage: stage is page.inputs["stage0_1"])
    assert [name for name in some.inputs if name.startswith("stage")] == ["stage0_0"]
    dated = requests.report("title", [step], date="May")
    assert len({page.key, some.key, dated.key}) == 3
    assert dated.params == {**page.params, "date": "May"}
