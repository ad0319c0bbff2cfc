"""SCHP checkpoints as parsers: which labels, which input, which preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parsing_models.catalogue import weights_file
from parsing_models.parser import Parser, Preprocessing
from parsing_models.schp import SCHP, Widths, fold_norms
from pipeline.atomic import sha256_file
from pipeline.errors import ReidpipeError, nearest
from pipeline.labels import ATR, LABEL_SETS, LIP, PASCAL, LabelSet
from reid_train.checkpoint import load_strict, read_state_dict, unwrap
from reid_train.runtime import Runtime

# The authors read images with OpenCV: blue comes first, in pixels and in the constants.
MEAN_BGR = (0.406, 0.456, 0.485)
STD_BGR = (0.225, 0.224, 0.229)
# Classes of the published files -> label set and input size.
PUBLISHED = {20: (LIP, (473, 473)), 18: (ATR, (512, 512)), 7: (PASCAL, (512, 512))}
# The small network looks at upright crops, so little of its input is padding.
TINY_INPUT = (192, 96)
OPTIONS = ("label_set", "input_size", "memory_mib")


class Fusion(nn.Module):
    """SCHP reduced to the output in use, norms folded: N,3,H,W -> logits N,C,H/4,W/4."""

    def __init__(self, network: SCHP) -> None:
        super().__init__()
        self.network = fold_norms(network)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs).fusion


def load_schp(
    kind: str,
    weights: Path | str | Mapping[str, Any] | None,
    *,
    device: str,
    options: Mapping[str, Any],
) -> Parser:
    """``parsing_models.load_parser`` for ``schp`` and ``schp-tiny``."""
    for name in options:
        if name not in OPTIONS:
            raise ReidpipeError(
                f"found option '{name}' for parser '{kind}'{nearest(name, OPTIONS)}; expected "
                f"{', '.join(OPTIONS)}; leave it out"
            )
    digest, source = None, f"the state dict given for '{kind}'"
    if isinstance(weights, Mapping):
        state = unwrap({key: _tensor(value) for key, value in weights.items()}, source)
    else:
        path = weights_file(kind, weights)
        digest, source = sha256_file(path), str(path)
        state = read_state_dict(path)
    runtime = Runtime.create(device)
    network = build(state, source=source)
    label_set, input_size = _published(kind, network.widths.classes)
    label_set = _label_set(options.get("label_set", label_set), network.widths.classes)
    height, width = options.get("input_size", input_size)
    return Parser(
        network=Fusion(network).to(memory_format=torch.channels_last).to(runtime.device),
        label_set=label_set,
        preprocessing=Preprocessing((int(height), int(width)), "bgr", MEAN_BGR, STD_BGR),
        device=runtime.device,
        name=kind,
        facts={"weights_sha256": digest or ""},
        memory_mib=int(options.get("memory_mib", 1024)),
    )


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


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


def _label_set(value: LabelSet | str, classes: int) -> LabelSet:
    if isinstance(value, str):
        if value not in LABEL_SETS:
            raise ReidpipeError(
                f"found label set '{value}'{nearest(value, LABEL_SETS)}; expected one of "
                f"{', '.join(LABEL_SETS)}; type the label set the weights were trained on"
            )
        value = LABEL_SETS[value]
    if len(value) != classes:
        raise ReidpipeError(
            f"found weights with {classes} classes; expected {len(value)} for label set "
            f"'{value.name}'; give label_set= the set they were trained on"
        )
    return value
