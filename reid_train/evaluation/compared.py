"""Which of a model's outputs an evaluation compares, where it is not the embedding."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pipeline.terminal.errors import ReidpipeError

if TYPE_CHECKING:
    from torch import Tensor

    from reid_train.evaluation.embeddings import Encoder
    from reid_train.models.deployable import ReidModel

EMBEDDING = "embedding"
FEATURE = click.option(
    "--feature",
    metavar="NAME[+NAME...]",
    help="Output of the model that is compared; several by +, each L2-normalised.  "
    f"[default: {EMBEDDING}]",
)


class Compared(NamedTuple):
    """encode: a view of images N,3,H,W to features N,D, as ``embed`` calls it. joined: the sum of
    the features of an image's views, N,D, to what is compared of it, N,D; None: it is that itself.
    """

    encode: Encoder
    joined: Callable[[Tensor], Tensor] | None = None


def compared(model: ReidModel, feature: str | None) -> Compared:
    """What is compared for ``feature``: a name of ``model.features``, or several joined by ``+``,
    each L2-normalised before they are put one behind another, so that each weighs the same in a
    cosine. None: the embedding, as it is.

    Of several views of an image each output is added first and normalised then: sums of vectors of
    length 1 have any length. CLIP-ReID's embedding is its ``feature`` and its ``projected`` one
    behind the other at whatever lengths training gives them, so the longer one decides. Raises
    ReidpipeError for other names.
    """
    if feature is None:
        return Compared(model)
    dims: Mapping[str, int] = model.trunk.feature_dims  # type: ignore[assignment]
    names = read_feature(feature, dims)

    def encode(images: Tensor, **side: Any) -> Tensor:
        import torch

        found = model.features(images, **side)
        return torch.cat([found[name] for name in names], dim=1)

    def joined(features: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        parts = features.split([dims[name] for name in names], dim=1)
        return torch.cat([F.normalize(part.contiguous(), dim=1) for part in parts], dim=1)

    return Compared(encode, joined if len(names) > 1 else None)


def encoder(model: ReidModel, feature: str | None) -> Encoder:
    """What is ``compared`` of images of a single view each. None: the model itself."""
    encode, joined = compared(model, feature)
    if joined is None:
        return encode
    return lambda images, **side: joined(encode(images, **side))


def read_feature(feature: str, known: Collection[str]) -> list[str]:
    """The names in ``A+B``; ReidpipeError for one that is not ``known``, or is there twice."""
    names = feature.split("+")
    if len(set(names)) < len(names) or not set(names) <= set(known):
        raise ReidpipeError(
            f"found --feature {feature}; expected one of {', '.join(sorted(known))}, or different "
            f"ones joined by +; type --feature {EMBEDDING}"
        )
    return names


def check_feature(recipe: Mapping[str, Any], feature: str) -> None:
    """Raise ReidpipeError where the trunk of a recipe, as plain values, does not have ``feature``:
    before anything is trained.
    """
    read_feature(feature, outputs(recipe))


def outputs(recipe: Mapping[str, Any]) -> Mapping[str, int]:
    """Names and lengths of what the trunk of a recipe, as plain values, gives of an image. Raises
    ReidpipeError for the trunk of a plugin that was not given.
    """
    import torch

    from reid_train.models import TRUNKS

    # How many rows a table has depends on the data; no output does.
    tables = ("cameras", "views")
    model = recipe["model"]
    options = {key: value for key, value in model["options"].items() if key not in tables}
    TRUNKS.check(model["trunk"], "model.trunk")
    with torch.random.fork_rng(devices=[]):
        trunk = TRUNKS[model["trunk"]](input_size=tuple(recipe["input"]["size"]), **options)
    return trunk.feature_dims
