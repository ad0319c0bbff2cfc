"""The trunks a recipe may name.

A trunk maps normalised images N,3,H,W (with ``camids`` and ``views`` N, both optional) to a dict of
named features N,D; ``embedding`` is what retrieval uses; ``feature_dims`` gives each D. Factories
import their module when called: open_clip alone takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reid_train.models.clip.tiny import sizes as clip_tiny

if TYPE_CHECKING:
    from torch import nn


def _bignet(**options: Any) -> nn.Module:
    from reid_train.models.bignet import BigNet

    return BigNet(**options)


def _slicenet1(**options: Any) -> nn.Module:
    from reid_train.models.bignet import SliceNet1

    return SliceNet1(**options)


def _slicenet2(**options: Any) -> nn.Module:
    from reid_train.models.bignet import SliceNet2

    return SliceNet2(**options)


def _clip_vit(*, neck: str = "before", **options: Any) -> nn.Module:
    from reid_train.models.clip.visual import ClipVit, with_neck

    return with_neck(ClipVit(**options), neck)


def _clip_resnet(*, neck: str = "before", **options: Any) -> nn.Module:
    from reid_train.models.clip.visual import ClipResNet, with_neck

    return with_neck(ClipResNet(**options), neck)


def _resnet50(**options: Any) -> nn.Module:
    from reid_train.models.resnet import ResNet50

    return ResNet50(**options)


def _ianet(**options: Any) -> nn.Module:
    from reid_train.models.ianet import IANet

    return IANet(**options)


def _mobilenet(**options: Any) -> nn.Module:
    from reid_train.models.mobilenet import MobileNetV2Quarter

    return MobileNetV2Quarter(**options)


def _clip_tiny(**options: Any) -> nn.Module:
    return _clip_resnet(**{**clip_tiny.VISUAL, **options})


def _tiny(**options: Any) -> nn.Module:
    from reid_train.models.tiny import Tiny

    return Tiny(**options)


TRUNKS: dict[str, Callable[..., nn.Module]] = {
    "bignet": _bignet,
    "slicenet1": _slicenet1,
    "slicenet2": _slicenet2,
    "clip-rn50": _clip_resnet,
    "clip-tiny": _clip_tiny,
    "clip-vit-b16": _clip_vit,
    "ianet": _ianet,
    "mobilenetv2-x0.25": _mobilenet,
    "resnet50": _resnet50,
    "tiny": _tiny,
}

# Those that can start from CLIP's weights: their factories take ``pretrained`` and ``weights``.
CLIP_TRUNKS = ("clip-rn50", "clip-tiny", "clip-vit-b16")
# Those that can start from ImageNet's, likewise.
IMAGENET_TRUNKS = ("ianet", "mobilenetv2-x0.25", "resnet50")
