"""Checkpoints of IANet (github.com/blue-blue272/ImgReID-IAnet, models/IAResnet.py)."""

from __future__ import annotations

from pipeline.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from reid_train.engine.checkpoint import load_strict, shape_of
from reid_train.exchange.formats.imported import (
    Imported,
    PublishedFile,
    State,
    model_spec,
)
from reid_train.models.deployable import build_model
from reid_train.models.heads import LinearClassifier


def read(state: State, source: str, *, input_size: tuple[int, int] = (256, 128)) -> Imported:
    """ResNet-50 with two IA blocks; the number of identities comes from the classifier."""
    spec = model_spec("ianet", mean=IMAGENET_MEAN, std=IMAGENET_STD, input_size=input_size)
    model = build_model(spec)
    classes, dim = shape_of(state, "classifier.weight", source, 2)
    head = LinearClassifier(dim=dim, classes=classes, bias=True)
    load_strict(PublishedFile(model.trunk, classifier=head.classifier), state, source=source)
    return Imported(spec, model, {"embedding": head}, flip=True)
