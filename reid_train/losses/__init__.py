"""The losses a recipe may name: ``LOSSES[name](**options)(*outputs, labels) -> scalar float32``.

Those whose ``takes`` is empty get no labels.
"""

from __future__ import annotations

from pipeline.plugins import Door

LOSSES = Door(
    "loss",
    {
        "arcface": "reid_train.losses.margin:ArcFace",
        "camera-prototypes": "reid_train.losses.memory:CameraPrototypes",
        "circle": "reid_train.losses.margin:Circle",
        "cosface": "reid_train.losses.margin:CosFace",
        "cross-entropy": "reid_train.losses.identity:CrossEntropy",
        "image-text": "reid_train.losses.contrastive:SupCon",
        "pair-circle": "reid_train.losses.pairwise:PairCircle",
        "pair-contrastive": "reid_train.losses.pairwise:PairContrastive",
        "pair-cosface": "reid_train.losses.pairwise:PairCosFace",
        "part-alignment": "reid_train.losses.dense:PartAlignment",
        "part-contrast": "reid_train.losses.dense:PartContrast",
        "prototypes": "reid_train.losses.memory:PrototypeMemory",
        "triplet": "reid_train.losses.triplet:Triplet",
    },
)
