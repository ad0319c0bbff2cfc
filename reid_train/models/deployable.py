"""The deployable model: pixels in 0..1 in, retrieval features out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError
from reid_train.models import CLIP_TRUNKS, IMAGENET_TRUNKS, TRUNKS


class ReidModel(nn.Module):
    """A trunk with its own normalisation constants, so that nobody can feed it the wrong ones.

    ``forward(images N,3,H,W float RGB in 0..1)`` gives the method's retrieval feature N,D, not
    normalised. Images must already be ``input_size`` (H, W): resizing belongs to the data side,
    because methods differ in the filter. No classifier here: that part is training's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        input_size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(tuple(std)).view(1, 3, 1, 1))

    def features(
        self, images: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Every named feature of the trunk, each N,D; ``embedding`` is the one to search with.

        Raises ``ValueError`` when the images are not N,3,H,W of ``input_size``.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2:] != self.input_size:
            height, width = self.input_size
            raise ValueError(
                f"images have shape {tuple(images.shape)}; this model takes N,3,{height},{width}"
            )
        return self.trunk((images - self.mean) / self.std, camids=camids, views=views)

    def forward(
        self, images: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> Tensor:
        return self.features(images, camids, views)["embedding"]


def build_model(
    spec: Mapping[str, Any], *, pretrained: str = "none", weights: Path | None = None
) -> ReidModel:
    """The model, freshly initialised, that ``model.json`` describes under ``model``:
    ``{"trunk": name, "options": {...}, "mean": [3], "std": [3], "input_size": [H, W]}``.

    ``options`` are the trunk's keyword arguments beside ``input_size``. Weights are drawn from
    torch's generator: seed it around this call. ``pretrained`` is "none", "openai" or
    "imagenet" (kept in the folder ``weights``) or a file of such weights, and no part of the
    description: a trained model brings its own weights. Raises ReidpipeError for an unknown trunk
    and for weights it cannot take.
    """
    name = spec["trunk"]
    TRUNKS.check(name, "model.trunk")
    height, width = spec["input_size"]
    options = dict(spec.get("options", {}))
    if pretrained != "none":
        usual = "openai" if name in CLIP_TRUNKS else "imagenet" if name in IMAGENET_TRUNKS else ""
        if not usual or pretrained in {"openai", "imagenet"} - {usual}:
            raise ReidpipeError(
                f"found pretrained {pretrained} for trunk '{name}', which starts from "
                f"{usual or 'random'} weights; expected {f'{usual}, a file or ' if usual else ''}"
                f"none; type --pretrained {usual or 'none'}"
            )
        options |= {"pretrained": pretrained, "weights": weights}
    try:
        trunk = TRUNKS[name](input_size=(height, width), **options)
    except TypeError as error:
        # What a trunk hands on to another class cannot be read off its signature.
        if "unexpected keyword argument" not in str(error):
            raise
        option = str(error).rsplit("'", 2)[-2]
        raise ReidpipeError(
            f"found option 'model.options.{option}', which trunk '{name}' does not have; "
            "expected one of its keyword arguments; correct or remove it"
        ) from error
    if "embedding" not in getattr(trunk, "feature_dims", {}):
        raise ReidpipeError(
            f"found trunk '{name}' without feature_dims['embedding']; expected the length of each "
            "of its features by name, 'embedding' for retrieval among them; add it to the plugin"
        )
    return ReidModel(trunk, mean=spec["mean"], std=spec["std"], input_size=(height, width))
