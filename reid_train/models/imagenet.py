"""ImageNet weights to start from: where they are and which bytes they must have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.atomic import sha256_file
from pipeline.errors import ReidpipeError
from reid_train.checkpoint import read_state_dict


class Published(NamedTuple):
    """A file of weights. sha256: the whole digest, or the leading digits its name carries when
    nobody published more.
    """

    url: str
    sha256: str
    classifier: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


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


def imagenet_state(
    source: str | Path, published: Published, *, weights: Path | None = None
) -> dict[str, Tensor]:
    """Name -> tensor of an ImageNet file without its classifier. ``source``: "imagenet" for the
    ``published`` one, looked for in ``weights``, ``$REIDPIPE_WEIGHTS`` and torch's hub folder and
    downloaded into ``weights`` when absent; or a file in the same layout.

    Raises :class:`ReidpipeError` naming address, digest and folder when it cannot be had.
    """
    path = _imagenet_file(published, weights) if source == "imagenet" else Path(source)
    state = read_state_dict(path)
    return {k: v for k, v in state.items() if not k.startswith(published.classifier)}


def _imagenet_file(published: Published, weights: Path | None) -> Path:
    from pipeline.fetch import FetchError, fetch
    from pipeline.manifest import Archive

    url, digest, name = published.url, published.sha256, published.name
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    for folder in (weights, os.environ.get("REIDPIPE_WEIGHTS"), hub):
        if folder is not None and (Path(folder) / name).is_file():
            return _checked(Path(folder) / name, published)
    failure = "no folder for downloads was given"
    if weights is not None:
        whole = digest if len(digest) == 64 else None
        file = Archive(name=name, sha256=whole, urls=(url,), checksum_source="its file name")
        try:
            return _checked(fetch(file, weights), published)
        except FetchError as error:
            failure = str(error).split(";")[0]
    raise ReidpipeError(
        f"found no {name} ({failure}); expected ImageNet weights from {url} (sha256 {digest}) "
        f"in {weights or '$REIDPIPE_WEIGHTS'}; put the file there, or type --pretrained none"
    )


def _checked(path: Path, published: Published) -> Path:
    found = sha256_file(path)
    if not found.startswith(published.sha256):
        raise ReidpipeError(
            f"{path} has sha256 {found}; expected {published.sha256}; "
            f"delete it and download {published.url} again"
        )
    return path
