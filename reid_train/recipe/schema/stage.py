"""A stage of a recipe: batches, losses, what steps, hooks."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from reid_train.recipe.schema.part import Count, Options, Part, Positive, Share, ascending, finite

NotNegative = Annotated[float, Field(ge=0.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


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
    erase_area: Annotated[tuple[Share, Share], AfterValidator(ascending)] = (0.02, 1 / 3)
    erase_aspect: Annotated[tuple[Positive, Positive], AfterValidator(ascending)] = (0.3, 1 / 0.3)
    erase_linear: bool = False
    erase_fill: Literal["noise", "mean"] | tuple[float, float, float] = "noise"


class IdentityBatches(Part):
    """``ids`` identities with ``images_per_id`` images each in every (global) batch; an epoch has
    ``iterations`` batches, or as many as the images give. draw: which images of an identity:
    ``chunks``, all of them in turn, or one and then those of ``other-cameras``, every identity once
    a pass (which needs ``iterations``).
    """

    kind: Literal["identity-batches"]
    ids: Count
    images_per_id: Count
    iterations: Count | None = None
    draw: Literal["chunks", "other-cameras"] = "chunks"
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _passes(self) -> IdentityBatches:
        if self.draw == "other-cameras" and self.iterations is None:
            raise ValueError("iterations beside draw: other-cameras")
        return self


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


class Sampled(Part):
    """Batches of a sampler of ``reid_train.data.SAMPLERS`` that a plugin added: ``kind`` names it,
    fields beside these are its options.
    """

    model_config = ConfigDict(extra="allow")

    kind: str
    flipped_copies: bool = False
    augment: Augment = Augment()

    _finite = model_validator(mode="before")(finite)


def _known(*kinds: str) -> Discriminator:
    """Chooses the part of a ``kind``; of any other kind the part of plugins, ``other``."""

    def tag(value: Any) -> str:
        kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
        return kind if kind in kinds else "other"

    return Discriminator(tag)


DATA_KINDS = ("identity-batches", "shuffled", "features")


SCHEDULE_KINDS = ("constant", "warmup-multistep", "cosine", "one-cycle")


HOOKS = ("memory", "cluster")


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
    of the identities, ``cluster`` finds clusters to train on instead of identities; or a plugin's.
    """

    hook: str
    options: Options = {}


class Optimiser(Part):
    """Fields of ``reid_train.engine.optimiser.Optimiser``, explained there."""

    kind: Literal["adam", "adamw", "sgd"]
    lr: Positive
    weight_decay: NotNegative = 0.0
    bias_lr: NotNegative = 1.0
    bias_weight_decay: NotNegative | None = None
    no_decay: tuple[str, ...] = ()
    decay_matrices_only: bool = False
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: NotNegative = 1e-8
    momentum: NotNegative = 0.9
    nesterov: bool = False

    @model_validator(mode="after")
    def _looks_ahead(self) -> Optimiser:
        if self.kind == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("a momentum beside nesterov")
        return self


class Constant(Part):
    """``reid_train.engine.schedules.Constant``."""

    kind: Literal["constant"] = "constant"


class WarmupMultistep(Part):
    """``reid_train.engine.schedules.WarmupMultistep``."""

    kind: Literal["warmup-multistep"]
    milestones: tuple[int, ...]
    gamma: NotNegative = 0.1
    warmup_epochs: int = 0
    warmup_factor: NotNegative = 0.01
    first_epoch: int = 1


class Cosine(Part):
    """``reid_train.engine.schedules.Cosine``."""

    kind: Literal["cosine"]
    final_factor: NotNegative = 0.0
    warmup_epochs: int = 0
    warmup_factor: NotNegative = 0.01
    first_epoch: int = 0
    per: Literal["epoch", "step"] = "epoch"


class Scheduled(Part):
    """A schedule of ``reid_train.engine.SCHEDULES`` that a plugin added: ``kind`` names it, other
    fields are its options.
    """

    model_config = ConfigDict(extra="allow")

    kind: str

    _finite = model_validator(mode="before")(finite)


class OneCycle(Part):
    """``reid_train.engine.schedules.OneCycle``."""

    kind: Literal["one-cycle"]
    rise: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    start_division: Positive = 25.0
    final_division: Positive = 1e4


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
    data: Annotated[
        Annotated[IdentityBatches, Tag("identity-batches")]
        | Annotated[Shuffled, Tag("shuffled")]
        | Annotated[Features, Tag("features")]
        | Annotated[Sampled, Tag("other")],
        _known(*DATA_KINDS),
    ]
    losses: Annotated[tuple[Loss, ...], Field(min_length=1)]
    optimiser: Optimiser
    schedule: Annotated[
        Annotated[Constant, Tag("constant")]
        | Annotated[WarmupMultistep, Tag("warmup-multistep")]
        | Annotated[Cosine, Tag("cosine")]
        | Annotated[OneCycle, Tag("one-cycle")]
        | Annotated[Scheduled, Tag("other")],
        _known(*SCHEDULE_KINDS),
    ] = Constant()
    trains: Trains = (("*", 1.0),)
    accumulate: Count = 1
    clip: Positive | None = None
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    hooks: tuple[Hook, ...] = ()

    def names(self) -> list[tuple[str, str]]:
        """What it names that may be a plugin's: (kind of thing, name)."""
        return [
            ("sampler", "" if isinstance(self.data, Features) else self.data.kind),
            ("schedule", self.schedule.kind),
            *(("loss", loss.loss) for loss in self.losses),
            *(("hook", hook.hook) for hook in self.hooks),
        ]

    @property
    def reads(self) -> set[str]:
        """The outputs that its losses are on."""
        on = [(loss.on,) if isinstance(loss.on, str) else loss.on for loss in self.losses]
        return {name for names in on for name in names}

    @property
    def clusters(self) -> bool:
        """Whether it trains without identities."""
        return any(hook.hook == "cluster" for hook in self.hooks)
