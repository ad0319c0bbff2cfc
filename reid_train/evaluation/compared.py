"""Which of a model's outputs an evaluation compares, where it is not the embedding."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

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


def encoder(model: ReidModel, feature: str | None) -> Encoder:
    """What ``embed`` calls for ``feature``: a name of ``model.features``, or several joined by
    ``+``, each L2-normalised before they are put one behind another, so that each weighs the same
    in a cosine. None: the embedding, as it is.

    CLIP-ReID's embedding is its ``feature`` and its ``projected`` one behind the other at whatever
    lengths training gives them, so the longer one decides. Raises ReidpipeError for other names.
    """
    if feature is None:
        return model
    names = read_feature(feature, model.trunk.feature_dims)  # type: ignore[arg-type]

    def features(images: Tensor, **side: Any) -> Tensor:
        import torch
        import torch.nn.functional as F

        found = model.features(images, **side)
        if len(names) == 1:
            return found[names[0]]
        return torch.cat([F.normalize(found[name], dim=1) for name in names], dim=1)

    return features


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
