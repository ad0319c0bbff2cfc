"""Where a model looks: what speaks for a match, by occlusion; for an identity, by gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_train.evaluation.compared import encoder
from reid_train.evaluation.distances import unit_rows

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reid_train.models.deployable import ReidModel

CELLS = (8, 4)

# The layer after which a trunk has its last map.
_LAST_LAYERS = {
    "BigNet": "residual_9",
    "ClipResNet": "image_encoder.layer4",
    "IANet": "layer4",
    "MobileNetV2Quarter": "features.18",
    "OSNet": "transitions.2",
    "ResNet50": "layer4",
    "StrongBaseline": "stages.3",
    "Tiny": "blocks",
}


@dataclass(frozen=True)
class Explainable:
    """An image, uint8 (H, W, 3) RGB at the model's input size, and how the model reads it:
    images (N, 3, H, W) float in 0..1, RGB -> features (N, D), with the image's own camera and view
    where the model has side information.
    """

    image: np.ndarray
    encode: Callable[[Tensor], Tensor]


def activation_map(encode: Callable[[Tensor], Tensor], image: Tensor, target: Tensor) -> np.ndarray:
    """How much each region of ``image`` adds to its similarity with ``target``: float32 (8, 4).

    encode: as in ``Explainable``. image: (3, H, W). target: (D,)
    feature of the other image. Entry = cosine of the whole image minus cosine with the region
    painted in the image's mean colour; positive where the region speaks for the match.

    Occlusion (Zeiler and Fergus, ECCV 2014, section 2.1) and not Grad-CAM or attention roll-out:
    it asks the same question of convolutional and transformer models and needs nothing of their
    insides. Regions are twice as high and wide as the cells they are centred on.
    """
    import torch

    _, height, width = image.shape
    mean = image.mean(dim=(1, 2), keepdim=True)
    variants = [image]
    for row in range(CELLS[0]):
        for column in range(CELLS[1]):
            top, bottom = _span(row, CELLS[0], height)
            left, right = _span(column, CELLS[1], width)
            painted = image.clone()
            painted[:, top:bottom, left:right] = mean
            variants.append(painted)
    with torch.inference_mode():
        features = encode(torch.stack(variants)).float()
        cosines = torch.nn.functional.cosine_similarity(features, target[None].float())
    return (cosines[0] - cosines[1:]).reshape(CELLS).cpu().numpy().astype(np.float32)


def _span(cell: int, cells: int, length: int) -> tuple[int, int]:
    size = length / cells
    return max(0, round((cell - 0.5) * size)), min(length, round((cell + 1.5) * size))


def explain_pair(first: Explainable, second: Explainable) -> np.ndarray:
    """Two images and, beside each, what in it speaks for the match: uint8 (H, 4 W, 3) RGB."""
    import torch

    sides = (first, second)
    tensors = [torch.from_numpy(side.image.copy()).permute(2, 0, 1).float() / 255 for side in sides]
    with torch.inference_mode():
        features = [
            side.encode(tensor[None])[0] for side, tensor in zip(sides, tensors, strict=True)
        ]
    panels = []
    for side, tensor, other in zip(sides, tensors, reversed(features), strict=True):
        panels += [side.image, tint(side.image, activation_map(side.encode, tensor, other))]
    return np.concatenate(panels, axis=1)


def class_rows(features: np.ndarray, pids: np.ndarray) -> dict[int, np.ndarray]:
    """pid -> float32 (D,), the row of a classifier for each identity, from features (N, D), pids N.

    A trained classifier knows the training identities alone and is no part of a saved model. What
    takes its place for test identities are prototypes: the mean unit feature of an identity, less
    the mean over identities (which changes no soft-max over them, and leaves what tells one from
    the others).
    """
    rows = unit_rows(features)
    means = {int(pid): rows[pids == pid].mean(axis=0) for pid in np.unique(pids)}
    centre = np.mean(list(means.values()), axis=0)
    return {pid: (mean - centre).astype(np.float32) for pid, mean in means.items()}


def class_activation(
    network: ReidModel,
    images: Tensor,
    rows: Tensor,
    camids: Tensor | None = None,
    views: Tensor | None = None,
    *,
    feature: str | None = None,
) -> np.ndarray | None:
    """How much each cell of the last map adds to the score of a class: float32 (N, h, w).

    images: (N, 3, H, W) float RGB in 0..1. rows: (N, D), a class for each image (``class_rows``).
    feature: what retrieval compares, as of ``compared.encoder``. The score is the product of row
    and that feature; of CLIP's embedding the first part alone counts, the second has its attention
    in between. Entry = gradient of the score times activation, summed over channels.

    Where the feature is the mean of the last map, through batch norm or not, that is the class
    activation map (Zhou et al., CVPR 2016): the row times gamma / sqrt(variance), times the map,
    over the number of cells. For a ViT the map are the patch tokens that enter its last block: only
    the class token leaves it for the feature, so after it their gradient is 0. It is
    gradient-weighted (Selvaraju et al., ICCV 2017) cell by cell, with no mean over cells, and no
    roll-out of attention. None for trunks that have no map of the whole image, and for a feature
    from below that map.
    """
    import torch

    trunk: Any = getattr(network.trunk, "trunk", network.trunk)  # beneath a neck
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.detach().requires_grad_())
        return kept[-1]

    if type(trunk).__name__ == "ClipVit":
        # Beside its norm the last block takes the class token alone from what enters it.
        norm: nn.Module = trunk.image_encoder.transformer.resblocks[-1].ln_1
        handle = norm.register_forward_pre_hook(lambda _module, given: (keep(given[0]),))
    elif type(trunk).__name__ in _LAST_LAYERS:
        layer = trunk.get_submodule(_LAST_LAYERS[type(trunk).__name__])
        handle = layer.register_forward_hook(lambda _module, _given, found: keep(found))
    else:
        return None
    dims = trunk.feature_dims
    size = dims["feature"] if feature is None and "projected" in dims else rows.shape[1]
    encode = encoder(network, feature)
    with torch.enable_grad():
        try:
            compared = encode(images, camids=camids, views=views)[:, :size]
        finally:
            handle.remove()
        score = (compared * rows[:, :size].to(compared)).sum()
        (gradient,) = torch.autograd.grad(score, kept[0], allow_unused=True)
    if gradient is None:
        return None
    weighted = gradient * kept[0].detach()
    if weighted.ndim == 4:
        found = weighted.sum(1)
    else:
        found = weighted[:, 1:].sum(2).unflatten(1, trunk.grid)
    return found.float().cpu().numpy()


def tint(
    image: np.ndarray,
    relevance: np.ndarray,
    *,
    opacity: float = 0.6,
    colour: tuple[int, int, int] = (230, 30, 20),
) -> np.ndarray:
    """The image in grey with regions that speak for the match in ``colour`` (red): uint8 (H, W, 3)
    RGB.

    image: uint8 (H, W, 3) RGB. relevance: float (h, w); its greatest value is full strength,
    values of 0 and below leave the image grey.
    """
    from PIL import Image

    height, width = image.shape[:2]
    strongest = max(float(relevance.max()), 1e-12)
    small = Image.fromarray(np.clip(relevance / strongest, 0, 1).astype(np.float32))
    heat: Any = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    heat = np.clip(heat, 0, 1)[..., None] * opacity
    grey = image.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2)
    mixed = grey * (1 - heat) + np.array(colour, float) * heat
    return np.round(mixed).astype(np.uint8)
