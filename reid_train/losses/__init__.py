"""The losses a recipe may name: ``LOSSES[name](**options)(input, labels) -> scalar float32``."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from reid_train.losses.contrastive import SupCon
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
    "prototypes": PrototypeMemory,
    "triplet": Triplet,
}
