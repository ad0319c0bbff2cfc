"""ImageNet weights to start from: where they are and which bytes they must have."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from reid_train.engine.checkpoint import read_state_dict
from reid_train.models.published_file import published_file


class Published(NamedTuple):
    """A file of weights. sha256: the whole digest, or the leading digits its name carries when
    nobody published more.
    """

    url: str
    sha256: str
    classifier: str


# torchvision's IMAGENET1K_V1, what Simple-ReID and IANet start from
RESNET50 = Published(
    "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "fc.",
)
# d-li14/mobilenetv2.pytorch: top-1 52.4 %, the student's start in pi-VL
MOBILENET_V2_025 = Published(
    "https://github.com/d-li14/mobilenetv2.pytorch/raw/master/pretrained/"
    "mobilenetv2_0.25-b61d2159.pth",
    "b61d2159",
    "classifier.",
)

OF_TRUNK = {
    "ianet": RESNET50,
    "mobilenetv2-x0.25": MOBILENET_V2_025,
    "resnet50": RESNET50,
}


def imagenet_state(
    source: str | Path, published: Published, *, weights: Path | None = None
) -> dict[str, Tensor]:
    """Name -> tensor of an ImageNet file without its classifier. ``source``: "imagenet" for the
    ``published`` one, looked for in ``weights``, ``$REIDPIPE_WEIGHTS`` and torch's hub folder and
    downloaded into ``weights`` when absent; or a file in the same layout.

    Raises :class:`ReidpipeError` naming address, digest and folder when it cannot be had, and when
    its bytes are others.
    """
    path = imagenet_file(published, weights) if source == "imagenet" else Path(source)
    state = read_state_dict(path)
    return {k: v for k, v in state.items() if not k.startswith(published.classifier)}


def imagenet_file(published: Published, weights: Path | None) -> Path:
    """Where a published file is, downloaded when it is nowhere. Raises as ``imagenet_state``."""
    return published_file(
        published.url,
        published.sha256,
        weights,
        cache=Path(torch.hub.get_dir()) / "checkpoints",
        what="ImageNet",
        source="its file name",
    )
