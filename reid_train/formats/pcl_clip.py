"""Checkpoints of PCL-CLIP (Li & Gong 2023, github.com/RikoLi/PCL-CLIP)."""

from __future__ import annotations

from reid_train.checkpoint import load_strict
from reid_train.formats.clip_reid import _HALF, _clip_vit
from reid_train.formats.imported import Imported, PublishedFile, State, shape_of
from reid_train.models.clip_visual import NeckedFeatures
from reid_train.models.heads import BNNeck, LinearClassifier
from reid_train.models.reid_model import ReidModel

OPTIONS = ("input_size", "stride", "sie_coefficient", "sie", "views")


def read(
    state: State,
    source: str,
    *,
    input_size: tuple[int, int] | None = None,
    stride: int | None = None,
    sie_coefficient: float = 1.0,
    sie: str = "camera",
    views: int = 0,
) -> Imported:
    """CLIP's ViT with a batch norm on each of its two features; retrieval reads both after them.

    Options as for ``clip-reid``. Images are normalised by 0.5; unlike CLIP-ReID the authors resize
    bicubically at test time too. One classifier reads the whole embedding N,1280.
    """
    tower, size = _clip_vit(state, source, input_size, stride, sie_coefficient, sie, views)
    trunk = NeckedFeatures(
        tower,
        BNNeck(tower.feature_dims["feature"]),
        BNNeck(tower.feature_dims["projected"]),
    )
    classes, dim = shape_of(state, "classifier.weight", source)
    head = LinearClassifier(dim=dim, classes=classes)
    file = PublishedFile(
        tower,
        bottleneck=trunk.bottleneck,
        bottleneck_proj=trunk.bottleneck_proj,
        classifier=head.classifier,
    )
    load_strict(file, state, source=source)
    model = ReidModel(trunk, mean=_HALF, std=_HALF, input_size=size)
    return Imported(model, {"embedding": head})
