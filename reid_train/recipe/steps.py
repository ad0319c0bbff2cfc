"""What training a recipe asks for, as steps: features, prompts, text rows, the model.

Importing this needs no torch. In a step's parameters stands all of a recipe; in its key what is not
at its default, and no name (``reid_train.recipe.schema.Part.keyed``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifacts import requests
from pipeline.artifacts.atomic import sha256_file
from pipeline.artifacts.steps import Step
from pipeline.plugins import digests
from pipeline.terminal.errors import ReidpipeError
from reid_train.models import is_tag
from reid_train.models.installed import INSTALLED
from reid_train.recipe.schema import Features, Part, Recipe, Stage, Text

# Options of a trunk that are no part of frozen features: side information, norms behind them.
BESIDE = ("cameras", "views", "sie_coefficient", "neck")


# In place of the name of weights: they are those of the input "start".
RUN = "run"


def stands_for_bytes(pretrained: str) -> bool:
    """Whether a name of a start says which weights they are, so that no file must."""
    return pretrained in ("none", "openai", "imagenet", *INSTALLED) or is_tag(pretrained)


@dataclass(frozen=True)
class Start:
    """Weights to start from, as they enter a step: a name that stands for published bytes, a
    package by the SHA-256 that its file must have, or a file by its own.
    """

    name: str
    weights: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, pretrained: str | Path | Start) -> Start:
        """``none``, ``openai``, ``open_clip:ARCH/TAG``, ``imagenet``, a package of ``INSTALLED``,
        or the path of a file, which is read; or one that was made of these.
        """
        if isinstance(pretrained, Start):
            return pretrained
        if (package := INSTALLED.get(str(pretrained))) is not None:
            return cls(str(pretrained), {"pretrained": package.sha256})
        if stands_for_bytes(str(pretrained)):
            return cls(str(pretrained))
        digest = sha256_file(Path(pretrained))
        return cls("file", {"pretrained": digest}, {"pretrained": str(pretrained)})

    def seed(self, seed: int) -> int:
        """The seed of frozen weights: it says nothing about weights that come from a file."""
        return seed if self.name == "none" else 0


def model(
    source: Step,
    recipe: Recipe,
    *,
    seed: int,
    pretrained: str | Path | Start = "none",
    teacher: str | Path | Start = "none",
    label_maps: Step | None = None,
) -> Step:
    """A model trained by ``recipe`` on the train split of an index.

    pretrained: ``none``, ``openai``, ``open_clip:ARCH/TAG``, ``imagenet``, an installed package or
    a file of weights to start from, or ``Start.of`` one; the SHA-256 of a file, in a package too,
    enters the key. A recipe with a text side stands on its texts, each part of which is an artifact
    that other recipes share: frozen features, prompts per stage, the table of rows. They come from
    the model's own start, or from that of its teacher, which ``teacher`` names likewise.
    """
    start = Start.of(pretrained)
    given = recipe.input
    inputs = {
        "index": source,
        "images": requests.images(source, size=given.size, filter=given.train_filter),
    }
    if label_maps is not None:
        inputs["maps"] = label_maps
    if recipe.model.text is not None:
        encoder = Start.of(teacher) if recipe.model.teacher else start
        inputs["text"] = _text(source, recipe, recipe.model.text, seed, encoder, label_maps)
    # Prompt stages and their encoder are other steps: what they leave is in the key through the
    # inputs.
    images = recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"teacher": None}),
            "stages": recipe.image_stages,
        }
    )
    return _step("model", {"recipe": images}, {"seed": seed}, inputs, start, recipe.names())


def continuation(start: Step, recipe: Recipe, inputs: Mapping[str, Step], *, seed: int) -> Step:
    """A model that goes on from the weights of ``start``, a model or an epoch of one, through the
    stages of ``recipe``, with a fresh optimiser and schedule. inputs: as of ``model``.
    """
    everything = {**inputs, "start": start}
    others = {"seed": seed}
    return _step("model", {"recipe": recipe}, others, everything, Start(RUN), recipe.names())


def _step(
    name: str,
    parts: Mapping[str, Part],
    others: Mapping[str, Any],
    inputs: Mapping[str, Step],
    start: Start,
    used: Sequence[tuple[str, str]] = (),
) -> Step:
    """A step with parts of a recipe among its parameters, from a start. used: what it names that
    may be a plugin's, whose text then is in its key.
    """
    others = {**others, "pretrained": start.name}
    full = {
        key: part.plain() if isinstance(part, Recipe) else part.model_dump(mode="json")
        for key, part in parts.items()
    }
    return Step(
        name,
        {**full, **others},
        inputs,
        weights={**start.weights, **digests(used)},
        files=start.files,
        keyed={**{key: part.keyed() for key, part in parts.items()}, **others},
    )


def _text(
    source: Step,
    recipe: Recipe,
    text: Text,
    seed: int,
    start: Start,
    label_maps: Step | None,
) -> Step:
    """The table of text rows at the end of a recipe's prompt stages."""
    # What is asked of the text side later must not part the steps that come before.
    early = text.model_copy(update={"parts": "none"})
    prompts: Step | None = None
    for stage in recipe.prompt_stages:
        inputs = {"features": _features(source, recipe, seed, start, stage, label_maps)}
        if prompts is not None:
            inputs["prompts"] = prompts
        prompts = _step(
            "prompts",
            {"text": early, "stage": stage},
            {"seed": seed},
            inputs,
            start,
            stage.names(),
        )
    if prompts is None:
        raise ValueError(f"recipe '{recipe.name}' has a text side and no stage on features")
    inputs = {"prompts": prompts}
    if text.parts != "none":
        inputs["maps"] = _needed(label_maps, recipe)
    return _step("text", {"text": text}, {"seed": start.seed(seed)}, inputs, start)


def _features(
    source: Step,
    recipe: Recipe,
    seed: int,
    start: Start,
    stage: Stage,
    label_maps: Step | None,
) -> Step:
    assert isinstance(stage.data, Features)
    given, encoder = recipe.input, encoder_spec(recipe)
    inputs = {
        "index": source,
        "images": requests.images(source, size=given.size, filter=given.test_filter),
    }
    if stage.data.parts:
        inputs["maps"] = _needed(label_maps, recipe)
    others = {"model": encoder, "parts": stage.data.parts, "seed": start.seed(seed)}
    return _step("features", {}, others, inputs, start, [("trunk", encoder["trunk"])])


def encoder_spec(recipe: Recipe) -> dict[str, Any]:
    """What prompts are tuned on the features of, the teacher or the trunk itself, for
    ``build_model``.
    """
    encoder = recipe.model.teacher or recipe.model
    # A teacher has mean and std of its own; without one they are the input's.
    colours = recipe.model.teacher or recipe.input
    return {
        "trunk": encoder.trunk,
        "options": {k: v for k, v in encoder.options.items() if k not in BESIDE},
        "mean": list(colours.mean),
        "std": list(colours.std),
        "input_size": list(recipe.input.size),
    }


def _needed(label_maps: Step | None, recipe: Recipe) -> Step:
    if label_maps is None:
        raise ReidpipeError(
            f"found no label maps for recipe '{recipe.name}', which is about body parts; "
            "expected those of a parser; type --parsing schp-tiny"
        )
    return label_maps
