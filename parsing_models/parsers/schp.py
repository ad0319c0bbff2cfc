"""SCHP checkpoints as parsers: which labels, which input, which preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parsing_models.networks.schp.inference import FusionOnly
from parsing_models.networks.schp.network import SCHP, Widths
from parsing_models.parsers.catalogue import as_trained
from parsing_models.parsers.interface import MEMORY_MIB, Parser, Preprocessing
from parsing_models.parsers.loading import check_label_set, read_weights
from pipeline.images.normalisation import IMAGENET_MEAN, IMAGENET_STD, bgr
from pipeline.labels.sets import ATR, LIP, PASCAL, LabelSet
from reid_train.engine.checkpoint import load_strict
from reid_train.engine.runtime import Runtime

# The authors read images with OpenCV: blue comes first, in pixels and in the constants.
MEAN_BGR, STD_BGR = bgr(IMAGENET_MEAN), bgr(IMAGENET_STD)
# Classes of the published files -> label set and input size.
PUBLISHED = {20: (LIP, (473, 473)), 18: (ATR, (512, 512)), 7: (PASCAL, (512, 512))}
# The small network looks at upright crops, so little of its input is padding.
TINY_INPUT = (192, 96)


def load_schp(
    kind: str,
    weights: Path | str | Mapping[str, Any] | None,
    *,
    device: str,
    options: Mapping[str, Any],
) -> Parser:
    """``parsing_models.load_parser`` for ``schp`` and ``schp-tiny``; ``label_set`` and
    ``input_size`` are those of the training where the file says them."""
    given = read_weights(kind, weights)
    options = as_trained(kind, given.file, options)
    runtime = Runtime.create(device)
    network = build(given.state, source=given.source)
    label_set, input_size = _published(kind, network.widths.classes)
    label_set = check_label_set(options.get("label_set", label_set), network.widths.classes)
    height, width = options.get("input_size", input_size)
    return Parser(
        network=FusionOnly(network).to(memory_format=torch.channels_last).to(runtime.device),
        label_set=label_set,
        preprocessing=Preprocessing((int(height), int(width)), "bgr", MEAN_BGR, STD_BGR),
        device=runtime.device,
        name=kind,
        facts={"weights_sha256": given.sha256},
        memory_mib=int(options.get("memory_mib", MEMORY_MIB)),
    )


def build(state: Mapping[str, Tensor], *, source: str = "state dict") -> SCHP:
    """SCHP in eval mode with the weights of a state dict, its sizes read off the tensors.

    Raises ``ReidpipeError`` naming the first missing and unknown keys of another network's file.
    """
    network = SCHP(Widths.of(state))
    load_strict(network, {key: value.float() for key, value in state.items()}, source=source)
    return network.eval()


def _published(kind: str, classes: int) -> tuple[LabelSet, tuple[int, int]]:
    if kind == "schp-tiny":
        return LIP, TINY_INPUT
    return PUBLISHED.get(classes, PUBLISHED[20])
