"""The parts of a recipe, as typed data. Importing this needs no torch."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]


def _finite(value: Any) -> Any:
    """``value`` itself. Raises ValueError when there is an infinity or NaN anywhere in it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("finite numbers")
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _finite(item)
    return value


Options = Annotated[dict[str, Any], AfterValidator(_finite)]


class Part(BaseModel):
    """Base of all parts of a recipe: no unknown key, no change after loading, and no infinity or
    NaN, for which a key of an artifact has no text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    # Fields that decide no result: names, and what is told.
    UNKEYED: ClassVar[frozenset[str]] = frozenset()

    def keyed(self) -> dict[str, Any]:
        """What stands in the key of a step, as JSON values: the fields that decide a result and are
        not at their default, so that a later field changes no key.
        """
        return self.model_dump(mode="json", exclude_defaults=True, exclude=set(self.UNKEYED))


class Head(Part):
    """A training-only part named in ``reid_train.models.heads.HEADS``, reading feature ``on``."""

    kind: str
    on: str
    options: Options = {}


class Text(Part):
    """Prompts of identities in front of CLIP's frozen text encoder.

    architecture: of the CLIP file the encoder comes from, any of open_clip's whose text tower is
    CLIP's own; ``clip-tiny`` ships with the package.
    noun: "A photo of a X X X X person." tokens: learnt vectors per identity. parts: which part
    prompts there are beside them: ``identity`` ("... X X X X person's <part>."), ``fixed`` ("A
    photo of a person's <part>.", the same for everybody) or none. options: of ``ClipText``.
    """

    architecture: str
    noun: Literal["person", "vehicle"] = "person"
    tokens: Count = 4
    parts: Literal["none", "fixed", "identity"] = "none"
    options: Options = {}


class Teacher(Part):
    """The CLIP image encoder in front of which prompts are tuned when ``trunk`` is another network.
    It reads the trunk's images with mean and std of its own and is gone once the texts are there.
    ``pretrained``: ``none``, ``openai``, ``open_clip:ARCH/TAG``, ``clip-tiny`` or a file.
    """

    trunk: str
    pretrained: str = "openai"
    options: Options = {}
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Model(Part):
    """``trunk`` of ``reid_train.models.TRUNKS`` with its ``options``, and heads by free names.
    ``pretrained``: the weights it starts from unless ``--pretrained`` says otherwise. ``teacher``:
    for a trunk that is no image encoder of CLIP and still learns from texts.
    """

    trunk: str
    pretrained: Literal["none", "openai", "imagenet", "clip-tiny"] = "none"
    options: Options = {}
    heads: dict[str, Head] = {}
    text: Text | None = None
    teacher: Teacher | None = None


class Input(Part):
    """size: (H, W). mean, std: per RGB channel of pixels in 0..1. Filters: of PIL, per purpose,
    since published methods differ between training and test.
    """

    size: tuple[Count, Count]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train_filter: Literal["bicubic", "bilinear"] = "bilinear"
    test_filter: Literal["bicubic", "bilinear"] = "bilinear"


class Augment(Part):
    """Fields of ``reid_train.data.augmentation.Augmentation``, explained there."""

    zoom: Share = 0.0
    zoom_factor: Annotated[float, Field(ge=1.0)] = 1.125
    flip: Share = 0.0
    pad: Annotated[int, Field(ge=0)] = 0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    erase: Share = 0.0
    erase_area: tuple[Share, Share] = (0.02, 1 / 3)
    erase_aspect: tuple[float, float] = (0.3, 1 / 0.3)
    erase_linear: bool = False
    erase_fill: Literal["noise", "mean"] | tuple[float, float, float] = "noise"


class IdentityBatches(Part):
    """``ids`` identities with ``images_per_id`` images each in every (global) batch; an epoch has
    ``iterations`` batches, or as many as the images give.
    """

    kind: Literal["identity-batches"]
    ids: Count
    images_per_id: Count
    iterations: Count | None = None
    augment: Augment = Augment()


class Shuffled(Part):
    """Every image once per epoch in (global) batches of ``batch``; with ``flipped_copies`` the
    mirrored images are further images of the set.
    """

    kind: Literal["shuffled"]
    batch: Count
    flipped_copies: bool = False
    augment: Augment = Augment()


class Features(Part):
    """Prompt tuning: features of the frozen trunk, computed once from images without augmentation,
    shuffled in batches of ``batch``. With ``parts`` they are pooled over the parts of each image's
    label map as well.
    """

    kind: Literal["features"]
    batch: Count
    parts: bool = False


Images = IdentityBatches | Shuffled
TOLD = {"summary", "citation", "expected", "deviations"}
DATA_KINDS = ("identity-batches", "shuffled", "features")
MEMORIES = ("prototypes", "camera-prototypes")


class Loss(Part):
    """``loss`` of ``reid_train.losses.LOSSES`` on a feature of the trunk or a head's output, or on
    several of them.
    """

    loss: str
    on: str | tuple[str, ...]
    weight: float = 1.0
    options: Options = {}


class Hook(Part):
    """``hook`` of ``reid_train.hooks.HOOKS``, before every epoch: ``memory`` builds the prototypes
    of the identities, ``cluster`` finds clusters to train on instead of identities.
    """

    hook: Literal["memory", "cluster"]
    options: Options = {}


class Optimiser(Part):
    """Fields of ``reid_train.engine.optimiser.Optimiser``, explained there."""

    kind: Literal["adam", "adamw", "sgd"]
    lr: Annotated[float, Field(gt=0.0)]
    weight_decay: float = 0.0
    bias_lr: float = 1.0
    bias_weight_decay: float | None = None
    no_decay: tuple[str, ...] = ()
    decay_matrices_only: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.9
    nesterov: bool = False


class Constant(Part):
    """``reid_train.engine.schedules.Constant``."""

    kind: Literal["constant"] = "constant"


class WarmupMultistep(Part):
    """``reid_train.engine.schedules.WarmupMultistep``."""

    kind: Literal["warmup-multistep"]
    milestones: tuple[int, ...]
    gamma: float = 0.1
    warmup_epochs: int = 0
    warmup_factor: float = 0.01
    first_epoch: int = 1


class Cosine(Part):
    """``reid_train.engine.schedules.Cosine``."""

    kind: Literal["cosine"]
    final_factor: float = 0.0
    warmup_epochs: int = 0
    warmup_factor: float = 0.01
    first_epoch: int = 0
    per: Literal["epoch", "step"] = "epoch"


class OneCycle(Part):
    """``reid_train.engine.schedules.OneCycle``."""

    kind: Literal["one-cycle"]
    rise: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    start_division: float = 25.0
    final_division: float = 1e4


def _ordered(value: Any) -> Any:
    """Patterns as a list, in which order counts. In a mapping it does not: the pattern with more
    letters stands later, and so decides.
    """
    if isinstance(value, dict):
        return sorted(value.items(), key=lambda item: (len(re.sub(r"[*?]", "", item[0])), item[0]))
    return value


Trains = Annotated[tuple[tuple[str, float], ...], BeforeValidator(_ordered)]


class Stage(Part):
    """One part of training; ``trains``, ``accumulate``, ``clip`` and ``ema`` as in
    ``reid_train.engine.task.Stage``. ``trains`` is a list ``[[pattern, multiplier], ...]`` whose
    last match decides, or a mapping, where the longer pattern does.
    """

    name: str
    epochs: Count
    data: Annotated[IdentityBatches | Shuffled | Features, Field(discriminator="kind")]
    losses: Annotated[tuple[Loss, ...], Field(min_length=1)]
    optimiser: Optimiser
    schedule: Annotated[
        Constant | WarmupMultistep | Cosine | OneCycle, Field(discriminator="kind")
    ] = Constant()
    trains: Trains = (("*", 1.0),)
    accumulate: Count = 1
    clip: float | None = None
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    hooks: Annotated[tuple[Hook, ...], Field(max_length=1)] = ()

    @property
    def clusters(self) -> bool:
        """Whether it trains without identities."""
        return any(hook.hook == "cluster" for hook in self.hooks)


class Test(Part):
    """How the method is evaluated by default: ``flip`` adds the mirrored image's features."""

    flip: bool = False


class Expected(Part):
    """A published result, in 0..1, and where it stands."""

    dataset: str
    protocol: str
    mAP: float | None = None
    rank1: float | None = None
    rank5: float | None = None
    source: str


class Recipe(Part):
    """A method. precision: ``auto`` is bf16 on a GPU that has it, else fp32. deviations: what it
    does otherwise than its source, and why, a sentence each.
    """

    name: str
    summary: str = ""
    citation: tuple[str, ...] = ()
    model: Model
    input: Input
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool = False
    test: Test = Test()
    expected: tuple[Expected, ...] = ()
    deviations: tuple[str, ...] = ()

    UNKEYED = frozenset({"name", *TOLD})

    @property
    def prompt_stages(self) -> tuple[Stage, ...]:
        """The stages that tune prompts, which come first."""
        return tuple(stage for stage in self.stages if isinstance(stage.data, Features))

    @property
    def reads_maps(self) -> bool:
        """Whether it needs label maps."""
        parts = any(getattr(stage.data, "parts", False) for stage in self.stages)
        return parts or any("cells" in loss.on for stage in self.stages for loss in stage.losses)

    @property
    def image_stages(self) -> tuple[Stage, ...]:
        """The stages that train on images."""
        return self.stages[len(self.prompt_stages) :]

    @model_validator(mode="after")
    def _stages_fit(self) -> Recipe:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages {names} do not all have names of their own")
        if any(isinstance(stage.data, Features) for stage in self.image_stages):
            raise ValueError("stages on features, which tune prompts, come before those on images")
        if not self.image_stages:
            raise ValueError("at least one stage trains on images")
        if (self.prompt_stages or self.model.teacher) and self.model.text is None:
            raise ValueError("a teacher, and stages on features, tune prompts and need model.text")
        return self

    @model_validator(mode="after")
    def _hooks_fit(self) -> Recipe:
        for stage in self.stages:
            memories = [loss for loss in stage.losses if loss.loss in MEMORIES]
            if bool(memories) != bool(stage.hooks):
                raise ValueError(
                    f"stage '{stage.name}' needs losses {' or '.join(MEMORIES)} together with a "
                    "hook, memory or cluster"
                )
            if any(loss.on != "embedding" for loss in memories):
                raise ValueError(f"losses {' and '.join(MEMORIES)} are on embedding")
            if stage.clusters and getattr(stage.data, "iterations", None) is None:
                raise ValueError("hook cluster needs identity-batches with iterations")
            if stage.clusters and (self.model.heads or self.model.text):
                raise ValueError("hook cluster knows no identities: no heads and no text")
            if stage.hooks and self.input.train_filter != self.input.test_filter:
                raise ValueError("hooks read training images as in tests: use one filter for both")
        return self

    def plain(self) -> dict[str, Any]:
        """The recipe as JSON values, without what is said about it (summary, citation, expected
        results, deviations); ``from_plain`` is the inverse for the rest.
        """
        return self.model_dump(mode="json", exclude=TOLD)
