"""What ``classify`` asks for, as steps. Importing this needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifacts.atomic import sha256_file
from pipeline.artifacts.steps import Step
from pipeline.terminal.errors import ReidpipeError
from reid_train.classify.recipe import LearnerRecipe
from reid_train.models import is_tag
from reid_train.models.clip.tiny import sizes as clip_tiny


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset: its index step, how it was typed, the sentence its names are asked
    in, how they are worded, for people the attribute, and whether they are somebody's own.
    """

    index: Step
    dataset: str
    template: str
    attribute: str | None = None
    wording: str = "{}"
    own: bool = False

    @property
    def params(self) -> dict[str, Any]:
        """As they enter a step."""
        return {"attribute": self.attribute, "wording": self.wording}


@dataclass(frozen=True)
class Clip:
    """The CLIP everything stands on, as it enters a step."""

    params: Mapping[str, str]
    weights: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def named(cls, pretrained: str) -> Clip:
        """``openai``, ``open_clip:ARCH/TAG``, ``clip-tiny``, ``clip-tiny-vit`` or a file.

        Raises ReidpipeError for what is not there.
        """
        if pretrained == "openai" or is_tag(pretrained):
            return cls({"pretrained": pretrained})
        path = clip_tiny.FILES.get(pretrained) or Path(pretrained)
        if not path.is_file():
            raise ReidpipeError(
                f"found no file {path}; expected openai, {', '.join(clip_tiny.FILES)} or a file "
                "with a CLIP, or open_clip:ARCH/TAG; type --pretrained openai"
            )
        return cls(
            {"pretrained": "file"}, {"pretrained": sha256_file(path)}, {"pretrained": str(path)}
        )


def shots(classes: Classes, *, count: int, seed: int) -> Step:
    """A draw of ``count`` training images per class, ``shots.json``."""
    return Step(
        "shots",
        {"classes": classes.params, "shots": count, "seed": seed},
        {"index": classes.index},
    )


def class_features(classes: Classes, clip: Clip, view: str, drawn: Step | None = None) -> Step:
    """Features of CLIP's image tower: of the test images, or of those of a draw."""
    inputs = {"index": classes.index}
    if drawn is not None:
        inputs["shots"] = drawn
    return Step(
        "class-features",
        {"classes": classes.params, "view": view, **clip.params},
        inputs,
        weights=clip.weights,
        files=clip.files,
    )


def learner(
    classes: Classes, recipe: LearnerRecipe, clip: Clip, *, count: int, part: str, seed: int
) -> Step:
    """A learner trained on ``count`` shots of the classes of ``part``."""
    assert recipe.training is not None
    drawn = shots(classes, count=count, seed=seed)
    inputs = {"index": classes.index, "shots": drawn}
    if recipe.frozen_images and not recipe.view.augments:
        inputs["features"] = class_features(classes, clip, recipe.view.test, drawn)
    epochs = recipe.training.epochs_for(classes.dataset.split(":")[0], count)
    training = recipe.training.model_copy(update={"epochs": epochs, "dataset_epochs": {}})
    recipe = recipe.model_copy(update={"training": training})
    others = {"classes": classes.params, "part": part, "seed": seed, **clip.params}
    return Step(
        "learner",
        {"recipe": recipe.plain(), **others},
        inputs,
        weights=clip.weights,
        files=clip.files,
        keyed={"recipe": recipe.keyed(), **others},
    )


def accuracy(
    classes: Classes,
    recipe: LearnerRecipe,
    clip: Clip,
    *,
    part: str,
    trained: Step | None = None,
    file: Path | None = None,
) -> Step:
    """Accuracy on the test images of the classes of ``part``: of a trained learner, of a learner's
    ``file``, or of zero-shot.
    """
    return _tested(
        "accuracy", classes, recipe, clip, trained, file, {"part": part},
    )  # fmt: skip


def retrieval(
    classes: Classes,
    recipe: LearnerRecipe,
    clip: Clip,
    *,
    trained: Step | None = None,
    file: Path | None = None,
) -> Step:
    """The test people ranked by their classes' prompts, and by each other's pictures."""
    return _tested(
        "retrieval", classes, recipe, clip, trained, file, {},
    )  # fmt: skip


def _tested(
    name: str,
    classes: Classes,
    recipe: LearnerRecipe,
    clip: Clip,
    trained: Step | None,
    file: Path | None,
    more: Mapping[str, Any],
) -> Step:
    inputs = {"index": classes.index}
    weights, files = dict(clip.weights), dict(clip.files)
    if trained is not None:
        inputs["learner"] = trained
    if file is not None:
        weights["learner"], files["learner"] = sha256_file(file), str(file)
    if recipe.frozen_images:
        inputs["features"] = class_features(classes, clip, recipe.view.test)
    params: dict[str, Any] = {"classes": classes.params, **more, **clip.params}
    if recipe.learner == "zero-shot":
        params["templates"] = [recipe.template or classes.template, *recipe.templates]
    return Step(
        name,
        {"recipe": recipe.plain(), **params},
        inputs,
        weights=weights,
        files=files,
        keyed={"recipe": recipe.keyed(), **params},
    )
