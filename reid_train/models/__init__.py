"""The trunks and heads a recipe may name.

A trunk maps normalised images N,3,H,W (with ``camids`` and ``views`` N, both optional) to a dict of
named features N,D; ``embedding`` is what retrieval uses; ``feature_dims`` gives each D. It is made
as ``TRUNKS[name](input_size=(H, W), **options)``. One that can start from published weights or a
file takes ``pretrained`` and ``weights`` as well (``STARTS``).

A head belongs to training. It is made with what its signature asks for of what there is: on a
feature N,D ``dim`` D, ``classes`` C, and of the text side ``texts`` and ``text_dim``; on a list of
maps (``level_dims`` of the trunk) ``channels``, ``width`` (of the last), ``dim`` (of the texts, if
any), ``grid``, ``input_size``, ``stride``, ``patch``; and its options, which are others. It gives
logits N,C, or another feature of ``out_dim`` numbers.
"""

from __future__ import annotations

from typing import Literal

from pipeline.plugins import Door
from reid_train.models.installed import INSTALLED

# How the features of a model are compared: by their cosine, or as they are.
Distance = Literal["cosine", "euclidean"]
COSINE: Distance = "cosine"
EUCLIDEAN: Distance = "euclidean"
DISTANCES = (COSINE, EUCLIDEAN)

TRUNKS = Door(
    "trunk",
    {
        "bignet": "reid_train.models.bignet:BigNet",
        "slicenet1": "reid_train.models.bignet:SliceNet1",
        "slicenet2": "reid_train.models.bignet:SliceNet2",
        "clip-rn50": "reid_train.models.clip.trunks:clip_resnet",
        "clip-tiny": "reid_train.models.clip.trunks:clip_tiny_resnet",
        "clip-vit-b16": "reid_train.models.clip.trunks:clip_vit",
        "ianet": "reid_train.models.ianet:IANet",
        "mobilenetv2-x0.25": "reid_train.models.mobilenet:MobileNetV2Quarter",
        "osnet-x0.25": "reid_train.models.osnet:X025",
        "osnet-x0.5": "reid_train.models.osnet:X05",
        "osnet-x0.75": "reid_train.models.osnet:X075",
        "osnet-x1.0": "reid_train.models.osnet:X10",
        "osnet-ibn-x1.0": "reid_train.models.osnet:IBN_X10",
        "osnet-ain-x0.25": "reid_train.models.osnet:AIN_X025",
        "osnet-ain-x0.5": "reid_train.models.osnet:AIN_X05",
        "osnet-ain-x0.75": "reid_train.models.osnet:AIN_X075",
        "osnet-ain-x1.0": "reid_train.models.osnet:AIN_X10",
        "resnet50": "reid_train.models.resnet:ResNet50",
        "strong-resnet50": "reid_train.models.strong_baseline:StrongBaseline",
        "tiny": "reid_train.models.tiny:Tiny",
    },
    families={"timm/": "reid_train.models.timm_trunk:timm_trunk"},
)

HEADS = Door(
    "head",
    {
        "cosine": "reid_train.models.heads:CosineClassifier",
        "cosine-softmax": "reid_train.models.heads:CosineSoftmax",
        "weight-norm": "reid_train.models.heads:WeightNormLinear",
        "linear": "reid_train.models.heads:LinearClassifier",
        "bnneck": "reid_train.models.heads:NeckClassifier",
        "projection": "reid_train.models.heads:Projection",
        "text-rows": "reid_train.models.text_table:TextRows",
        "conv-fusion": "reid_train.models.pyramid:ConvFusion",
        "simple-pyramid": "reid_train.models.pyramid:SimplePyramid",
        "token-fusion": "reid_train.models.pyramid:TokenFusion",
        "token-map": "reid_train.models.pyramid:TokenMap",
        "single-map": "reid_train.models.pyramid:SingleMap",
    },
)


def is_tag(pretrained: str) -> bool:
    """Whether this has the form ``open_clip:ARCH/TAG``; whether there is one turns out when it is
    looked for, since open_clip imports torch.
    """
    prefix, _, rest = pretrained.partition(":")
    return prefix == "open_clip" and all(rest.partition("/"))


_CLIP = ("openai", "open_clip:ARCH/TAG")
# Published weights that a trunk of ours can start from, by its name or its family's; each of them
# starts from a file as well, and no other of ours does.
STARTS = {
    "clip-rn50": _CLIP,
    "clip-tiny": ("clip-tiny",),
    "clip-vit-b16": _CLIP,
    "ianet": ("imagenet",),
    "mobilenetv2-x0.25": ("imagenet",),
    "resnet50": ("imagenet",),
    "timm/": ("imagenet", *INSTALLED),
}
