"""Checkpoints of PCL-CLIP (Li & Gong 2023, github.com/RikoLi/PCL-CLIP)."""

from __future__ import annotations

from reid_train.engine.checkpoint import load_strict, shape_of
from reid_train.exchange.formats.clip_reid import clip_vit
from reid_train.exchange.formats.imported import Imported, PublishedFile, State
from reid_train.models.clip.trunks import NeckedFeatures
from reid_train.models.deployable import build_model
from reid_train.models.heads import LinearClassifier


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
    spec = clip_vit(state, source, input_size, stride, sie_coefficient, sie, views)
    spec = {**spec, "options": {**spec["options"], "neck": "after"}}
    model = build_model(spec)
    trunk = model.trunk
    assert isinstance(trunk, NeckedFeatures)
    classes, dim = shape_of(state, "classifier.weight", source, 2)
    head = LinearClassifier(dim=dim, classes=classes)
    file = PublishedFile(
        trunk.trunk,
        bottleneck=trunk.bottleneck,
        bottleneck_proj=trunk.bottleneck_proj,
        classifier=head.classifier,
    )
    load_strict(file, state, source=source)
    return Imported(spec, model, {"embedding": head}, test_filter="bicubic")
