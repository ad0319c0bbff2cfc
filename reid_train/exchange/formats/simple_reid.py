"""Checkpoints of Simple-ReID (github.com/guxinqian/Simple-ReID)."""

from __future__ import annotations

from torch import nn

from pipeline.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from reid_train.engine.checkpoint import load_strict
from reid_train.exchange.formats.imported import Imported, PublishedFile, State, model_spec
from reid_train.models.deployable import build_model
from reid_train.models.resnet import ResNet50


def read(state: State, source: str, *, input_size: tuple[int, int] = (256, 128)) -> Imported:
    """ResNet-50 with its last norm. The authors save no classifier, so there are no heads.

    Their figures add the feature of the mirrored image: that is the evaluation's, not the model's.
    """
    spec = model_spec("resnet50", mean=IMAGENET_MEAN, std=IMAGENET_STD, input_size=input_size)
    model = build_model(spec)
    trunk = model.trunk
    assert isinstance(trunk, ResNet50)
    # the authors keep the children of torchvision's network in a row
    base = nn.Sequential(
        *(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool),
        *(trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4),
    )
    load_strict(PublishedFile(base=base, bn=trunk.bn), state, source=source)
    return Imported(spec, model, flip=True)
