"""InvPT checkpoints as parsers: the human-part head, and how crops get onto its input."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from parsing_models.networks.invpt.network import UNUSED, InvPT, Sizes
from parsing_models.parsers.catalogue import entry
from parsing_models.parsers.interface import MEMORY_MIB, Parser, Preprocessing
from parsing_models.parsers.loading import check_label_set, read_weights
from parsing_models.parsers.warp import Similarity, Size
from pipeline.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pipeline.labels.sets import PASCAL
from reid_train.engine.checkpoint import load_strict
from reid_train.engine.runtime import Runtime

TASK = "human_parts"
# Longer side of an upscaled crop: people of the training photographs, about 500 pixels high.
UPSCALED = 480

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Centred:
    """The image in the middle of the input, the mean colour around it (0 after normalisation).

    upscale: the longer side becomes ``UPSCALED`` pixels (or the input's, where that is smaller),
    aspect kept. The authors resize nothing; but they trained on photographs of about 500 pixels
    at half to twice that size, and a person's crop of 64 x 128 pixels is far from it.

    Without it, as their validation does: pixels stay as they are. That transform leaves larger
    images larger than the network accepts; here they shrink until they fit. (Their demo script
    does neither: it stretches every image to the input.)
    """

    upscale: bool = True

    @property
    def description(self) -> str:
        if self.upscale:
            return (
                f"longer side resized to {UPSCALED}, bilinear (not the authors': they resize "
                "nothing), centred, padded with the mean colour"
            )
        return "not resized (larger than the input: to its size), centred, padded with mean colour"

    def similarity(self, image: Size, target: Size) -> Similarity:
        limits = [min(side, UPSCALED) for side in target] if self.upscale else target
        scale = min(limit / side for limit, side in zip(limits, image, strict=True))
        if not self.upscale:
            scale = min(scale, 1.0)
        height, width = (max(1, round(side * scale)) for side in image)
        top, left = (target[0] - height) // 2, (target[1] - width) // 2
        return Similarity(
            scale,
            left + (width - 1) / 2 - scale * (image[1] - 1) / 2,
            top + (height - 1) / 2 - scale * (image[0] - 1) / 2,
            (top, left, height, width),
        )


class HumanParts(nn.Module):
    """InvPT reduced to the task in use: N,3,S,S -> logits N,C,S/4,S/4."""

    def __init__(self, network: InvPT) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs, tasks=(TASK,)).logits[TASK]


def load_invpt(
    kind: str,
    weights: Path | str | Mapping[str, Any] | None,
    *,
    device: str,
    options: Mapping[str, Any],
) -> Parser:
    """``parsing_models.load_parser`` for ``invpt``.

    options: ``upscale`` (default True; see ``Centred``), ``label_set`` (of a head trained on other
    labels than the seven parts), ``memory_mib``. Logs the weights' licence: no commercial use.
    """
    upscale = options.get("upscale", True)
    given = read_weights(kind, weights)
    runtime = Runtime.create(device)
    network = build(given.state, source=given.source)
    label_set = check_label_set(options.get("label_set", PASCAL), dict(network.sizes.tasks)[TASK])
    licence = entry(kind).licence
    log.warning("InvPT's weights are %s: for research, not for commercial use", licence)
    side = network.sizes.input
    return Parser(
        network=HumanParts(network).to(runtime.device),
        label_set=label_set,
        preprocessing=Preprocessing((side, side), "rgb", IMAGENET_MEAN, IMAGENET_STD),
        device=runtime.device,
        name=kind,
        facts={
            "weights_sha256": given.sha256,
            "licence": f"{licence}: for research, not for commercial use",
            "upscale": upscale,
        },
        align_corners=False,
        memory_mib=int(options.get("memory_mib", MEMORY_MIB)),
        placement=Centred(upscale),
    )


def build(state: Mapping[str, Tensor], *, source: str = "state dict") -> InvPT:
    """InvPT in eval mode with the weights of a state dict, its sizes read off the tensors.

    What the authors' files hold and nothing reads (``UNUSED``) may be there or not. Raises
    ``ReidpipeError`` naming the first missing and unknown keys of another network's file, the
    authors' NYUD-v2 network, which knows no human parts, included.
    """
    network = InvPT(Sizes.of(state))
    floats = {key: value.float() for key, value in state.items()}
    load_strict(network, floats, optional=UNUSED, source=source)
    return network.eval()
