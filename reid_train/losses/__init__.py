"""The losses a recipe may name: ``LOSSES[name](**options)(*outputs, labels) -> scalar float32``.

Those whose ``takes`` is empty get no labels.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from reid_train.losses.contrastive import SupCon
from reid_train.losses.dense import PartAlignment, PartContrast
from reid_train.losses.identity import CrossEntropy
from reid_train.losses.margin import ArcFace, Circle, CosFace
from reid_train.losses.memory import CameraPrototypes, PrototypeMemory
from reid_train.losses.pairwise import PairCircle, PairContrastive, PairCosFace
from reid_train.losses.triplet import Triplet

LOSSES: dict[str, Callable[..., nn.Module]] = {
    "arcface": ArcFace,
    "camera-prototypes": CameraPrototypes,
    "circle": Circle,
    "cosface": CosFace,
    "cross-entropy": CrossEntropy,
    "image-text": SupCon,
    "pair-circle": PairCircle,
    "pair-contrastive": PairContrastive,
    "pair-cosface": PairCosFace,
    "part-alignment": PartAlignment,
    "part-contrast": PartContrast,
    "prototypes": PrototypeMemory,
    "triplet": Triplet,
}
