"""``segformer-tiny``: a SegFormer (Xie et al. 2021) small enough to be trained and shipped here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from parsing_models.parsers.interface import MEMORY_MIB, Parser, Preprocessing
from parsing_models.parsers.loading import read_weights
from pipeline.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pipeline.labels.sets import LIP

KIND = "segformer-tiny"
# ImageNet's constants, RGB, as SegFormer's published files use them.
GIVEN = Preprocessing((192, 96), "rgb", IMAGENET_MEAN, IMAGENET_STD)
CONFIG: dict[str, Any] = {
    "model_type": "segformer",
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 32, 64, 128],
    "num_attention_heads": [1, 2, 4, 8],
    "sr_ratios": [8, 4, 2, 1],
    "decoder_hidden_size": 64,
    "classifier_dropout_prob": 0.1,
    "drop_path_rate": 0.0,
    "id2label": dict(enumerate(LIP.names)),
    "label2id": {name: number for number, name in enumerate(LIP.names)},
}


def untrained() -> nn.Module:
    """The network N,3,H,W -> logits N,20,H/4,W/4, drawn from torch's generator."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    from parsing_models.parsers.huggingface import Dense

    return Dense(SegformerForSemanticSegmentation(SegformerConfig.from_dict(CONFIG)))


def load_segformer_tiny(
    kind: str,
    weights: Path | str | Mapping[str, Any] | None,
    *,
    device: str,
    options: Mapping[str, Any],
) -> Parser:
    """``parsing_models.load_parser`` for ``segformer-tiny``."""
    from parsing_models.parsers.huggingface import load_segformer

    given = read_weights(kind, weights)
    height, width = options.get("input_size", GIVEN.input_size)
    return load_segformer(
        CONFIG,
        {key.removeprefix("model."): value.to(torch.float32) for key, value in given.state.items()},
        name=kind,
        preprocessing=Preprocessing(
            (int(height), int(width)), GIVEN.channel_order, GIVEN.mean, GIVEN.std
        ),
        device=device,
        source=given.source,
        facts={"weights_sha256": given.sha256},
        memory_mib=int(options.get("memory_mib", MEMORY_MIB)),
    )
