"""Checkpoints of IANet (github.com/blue-blue272/ImgReID-IAnet, models/IAResnet.py)."""

from __future__ import annotations

from reid_train.checkpoint import load_strict
from reid_train.formats.imported import Imported, PublishedFile, State, shape_of
from reid_train.formats.simple_reid import IMAGENET_MEAN, IMAGENET_STD
from reid_train.models.heads import LinearClassifier
from reid_train.models.ianet import IANet
from reid_train.models.reid_model import ReidModel

OPTIONS = ("input_size",)


def read(state: State, source: str, *, input_size: tuple[int, int] = (256, 128)) -> Imported:
    """ResNet-50 with two IA blocks; the number of identities comes from the classifier."""
    trunk = IANet(input_size=input_size)
    classes, dim = shape_of(state, "classifier.weight", source)
    head = LinearClassifier(dim=dim, classes=classes, bias=True)
    load_strict(PublishedFile(trunk, classifier=head.classifier), state, source=source)
    model = ReidModel(trunk, mean=IMAGENET_MEAN, std=IMAGENET_STD, input_size=input_size)
    return Imported(model, {"embedding": head})
