"""What a published checkpoint becomes, and how its entries are taken from the state dict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError
from reid_train.models import COSINE
from reid_train.models.deployable import ReidModel

State = dict[str, Tensor]

# What tells other files of the field apart: the beginning of a key, and what it is in words.
_KINDS = {
    "image_encoder.": "a file of CLIP-ReID or PCL-CLIP (--from clip-reid, pcl-clip)",
    "backbone.conv1": "a file of fast-reid (--from fast-reid)",
    "backbone.": "a network under 'backbone.'",
    "conv1.conv.": "an OSNet of torchreid (--from torchreid)",
    "conv2.0.conv2": "an OSNet of torchreid (--from torchreid)",
    "bignet.": "a file of COL780 (--from col780)",
    "base.cls_token": "a file of TransReID, which no format reads",
    "base.": "a ResNet under 'base.' (--from simple-reid)",
    "visual.": "a CLIP",
    "features.": "a MobileNet or VGG of torchvision",
    "layer1.": "a plain ResNet",
    "blocks.": "a ViT",
}


def model_spec(
    trunk: str,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    input_size: Sequence[int],
    distance: str = COSINE,
    **options: Any,
) -> dict[str, Any]:
    """The description ``build_model`` reads, as JSON values."""
    return {
        "trunk": trunk,
        "options": options,
        "mean": list(mean),
        "std": list(std),
        "input_size": list(input_size),
        **({} if distance == COSINE else {"distance": distance}),
    }


@dataclass(frozen=True)
class Imported:
    """A published checkpoint taken apart.

    spec: what ``build_model`` reads to make the same network. model: the network with the file's
    weights. heads: the classifiers it was trained with (feature name -> ``forward(feature N,D) ->
    logits N,C``), which retrieval does without. test_filter and flip: how its authors resize test
    images (PIL's name) and whether they add the feature of the mirrored image.
    """

    spec: dict[str, Any]
    model: ReidModel
    heads: dict[str, nn.Module] = field(default_factory=dict)
    test_filter: str = "bilinear"
    flip: bool = False


class PublishedFile(nn.Module):
    """Modules arranged under a file's own key names, so that every refusal names the file's keys:
    the children and parameters of ``merged`` at the top, ``children`` under their names.
    """

    def __init__(self, *merged: nn.Module, **children: nn.Module) -> None:
        super().__init__()
        for module in merged:
            for name, child in module.named_children():
                self.add_module(name, child)
            for name, parameter in module.named_parameters(recurse=False):
                self.register_parameter(name, parameter)
        for name, child in children.items():
            self.add_module(name, child)


def check_kind(state: State, source: str, key: str, what: str) -> None:
    """Raise ReidpipeError, saying what the file is instead, when it lacks the ``key`` that every
    file of ``what`` has.
    """
    if key in state:
        return
    first = next(iter(state))
    known = (words for start, words in _KINDS.items() if any(k.startswith(start) for k in state))
    found = next(known, f"keys like '{first}'")
    raise ReidpipeError(
        f"found {found} ({source}); expected {what}, with the key '{key}'; "
        "give the file that belongs to it, or another --from"
    )
