"""Recipes of prompt learners, as typed data: a CLIP, the words around class names, and how the
learner is trained. Importing this needs no torch.

The files lie in ``recipes_classify/``: their parts are not those of an identity recipe (no heads,
no losses to choose, no identities). ``base:`` starts from another one; ``for_split:`` changes
values for one kind of split, as the authors do, and ``--set`` comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.recipe import files
from reid_train.recipe.loading import check_keys, wrong_value
from reid_train.recipe.schema import Count, Optimiser, Part, Published, Share
from reid_train.recipe.schema.part import Positive, RunName, ascending

# Values that are about training alone: paths, or beginnings of such.
LEARNT = ("training", "view.crop_area", "view.flip", "precision")
SPLITS = ("all", "base-new", "cross", "domain", "people")
FOLDER = "classify/published"
Some = Annotated[float, Field(gt=0.0, le=1.0)]
# What is said of a recipe, and its CLIP, which enters a step by its weights.
TOLD = {"summary", "citation", "pretrained", "expected", "deviations"}


class View(Part):
    """How images become the CLIP's input. ``test``: ``centre-crop`` resizes the short side and cuts
    out the middle, as CLIP does; ``whole`` resizes the whole picture, whatever its shape (people).
    ``crop_area``: share of the picture that a random crop of training keeps, None for none; its
    shape is 3/4 to 4/3. ``flip``: probability of mirroring. Without either, training reads frozen
    features where the image tower does not change.
    """

    test: Literal["centre-crop", "whole"] = "centre-crop"
    crop_area: Annotated[tuple[Some, Some], AfterValidator(ascending)] | None = None
    flip: Share = 0.0

    @property
    def augments(self) -> bool:
        return self.crop_area is not None or self.flip > 0


class Training(Part):
    """``epochs``: a number, or one per number of shots (that of the largest key not above the shots
    counts). ``dataset_epochs``: by dataset id, before those. The rate is ``warmup_lr`` in the first
    ``warmup_epochs`` and then falls along a cosine over the number of all epochs.
    """

    epochs: Count | dict[int, Count]
    dataset_epochs: dict[str, Count] = {}
    batch: Count
    optimiser: Optimiser
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    warmup_lr: Positive = 1e-5

    def epochs_for(self, dataset: str, shots: int) -> int:
        """Raises ReidpipeError when no number is given for so few shots."""
        if dataset in self.dataset_epochs:
            return self.dataset_epochs[dataset]
        if isinstance(self.epochs, int):
            return self.epochs
        fitting = [least for least in self.epochs if least <= shots]
        if not fitting:
            raise ReidpipeError(
                f"found {shots} shots and epochs for {sorted(self.epochs)}; expected a number for "
                "all; type --set training.epochs=50"
            )
        return self.epochs[max(fitting)]


class Accuracies(Published):
    """Accuracies on ``dataset`` under one split, by the column of the table: ``accuracy``, ``base``
    and ``new`` and their harmonic mean ``H``, or the datasets of a transfer. shots: training images
    per class, None where nothing is trained. attribute: of people, that makes the classes.
    """

    dataset: str
    split: Literal["all", "base-new", "cross", "domain", "people"]
    figures: dict[str, Share]
    shots: Count | None = None
    attribute: str = ""

    def figures_by_name(self) -> dict[str, float]:
        """The accuracies, in 0..1."""
        return dict(self.figures)


class LearnerRecipe(Part):
    """``learner`` and its options as of ``reid_train.load_prompt_classifier``. ``template``: of a
    learner; of zero-shot in place of the dataset's own. ``templates``: further ones (zero-shot:
    their mean). ``pretrained``: the CLIP unless ``--pretrained`` says otherwise. precision: of
    GPUs, since CPUs compute in float32; ``fp64`` everywhere, to compare trainings step by step.
    deviations: what it does otherwise than its source, a sentence each.
    """

    kind: Literal["prompt-learner"]
    name: RunName
    summary: str
    citation: tuple[str, ...] = ()
    learner: Literal["zero-shot", "coop", "cocoop", "maple"]
    pretrained: Literal["openai", "clip-tiny", "clip-tiny-vit"] = "openai"
    templates: tuple[str, ...] = ()
    template: str | None = None
    position: Literal["end", "middle", "front"] = "end"
    n_ctx: Count | None = None
    class_specific: bool = False
    depth: Count | None = None
    view: View = View()
    training: Training | None = None
    test_batch: Count = 100
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    expected: tuple[Accuracies, ...] = ()
    deviations: tuple[str, ...] = ()

    UNKEYED = frozenset({"name", *TOLD})

    @property
    def frozen_images(self) -> bool:
        """Whether image features are CLIP's own, whatever is learnt."""
        return self.learner != "maple"

    @model_validator(mode="after")
    def _fits(self) -> LearnerRecipe:
        if (self.training is None) != (self.learner == "zero-shot"):
            raise ValueError("every learner has training, and zero-shot none")
        if self.templates and self.learner != "zero-shot":
            raise ValueError("templates are of zero-shot; a learner has one template")
        if self.depth is not None and self.learner != "maple":
            raise ValueError("depth is of maple")
        if self.class_specific and self.learner != "coop":
            raise ValueError("class_specific is of coop")
        if self.position != "end" and self.learner != "coop":
            raise ValueError("another position than end is of coop")
        return self

    def options(self) -> dict[str, Any]:
        """For ``load_prompt_classifier`` with an untrained learner."""
        if self.learner == "zero-shot":
            return {}
        found: dict[str, Any] = {"template": self.template}
        if self.n_ctx is not None:
            found["n_ctx"] = self.n_ctx
        if self.learner == "coop":
            found |= {"position": self.position, "class_specific": self.class_specific}
        if self.depth is not None:
            found["depth"] = self.depth
        return found

    def plain(self) -> dict[str, Any]:
        """What a result depends on, as JSON values; ``from_plain`` is the inverse."""
        return self.model_dump(mode="json", exclude=TOLD)


def from_plain(value: dict[str, Any]) -> LearnerRecipe:
    """A recipe from its ``plain`` form."""
    return LearnerRecipe.model_validate({"summary": "", **value})


def list_learners() -> list[str]:
    """Names of the learner recipes that come with the package, sorted."""
    return files.names_in(FOLDER)


def is_learnt(path: str) -> bool:
    """Whether a value of a recipe is about training alone, and so acts where something learns."""
    return any(path == name or path.startswith(f"{name}.") for name in LEARNT)


def load_learner(
    name_or_path: str | Path, split: str = "all", settings: Sequence[tuple[str, str]] = ()
) -> LearnerRecipe:
    """A learner recipe by name or file, as it is for ``split``, with single values replaced by
    ``settings`` (dotted path, YAML text). Those about training and learnt vectors do not concern
    zero-shot, which has none; ``training.epochs`` also takes the place of a dataset's own number.
    Raises ReidpipeError, in one line, for what is unknown.
    """
    given = str(name_or_path)
    name = Path(given).stem if files.is_file(given) else given
    content = {"name": name, **files.read(given, FOLDER, see="reidpipe classify coop")}
    by_split = content.pop("for_split", None) or {}
    changes = by_split.values() if isinstance(by_split, dict) else [None]
    if not all(isinstance(change, dict) for change in changes):
        raise ReidpipeError(
            f"recipe '{name}': found {str(by_split)[:80]} for for_split; expected what changes, by "
            f"the name of a split ({', '.join(SPLITS)}); correct the file"
        )
    for known in by_split:
        if known not in SPLITS:
            raise ReidpipeError(
                f"recipe '{name}': found for_split '{known}'{nearest(str(known), SPLITS)}; "
                f"expected {', '.join(SPLITS)}; correct the file"
            )
    content = files.merged(content, by_split.get(split, {}))
    for path, text in settings:
        if content.get("learner") == "zero-shot" and (is_learnt(path) or path == "n_ctx"):
            continue
        if path.partition(".epochs")[0] == "training":
            files.put(content, "training.dataset_epochs", {})
        files.put_text(content, path, text)
    check_keys(LearnerRecipe, content, "", name)
    check_keys(Training, content.get("training"), "training", name)
    try:
        return LearnerRecipe.model_validate(content)
    except ValidationError as error:
        raise wrong_value(error, content, name) from error
