"""SOLIDER for human parsing: SCHP's heads on a Swin backbone (Chen et al., SOLIDER, 2023).

The authors publish self-supervised backbones and the code of the parser, but no trained parser.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parsing_models.networks.solider import Solider, SoliderFusion, SoliderSizes
from parsing_models.networks.swin import Swin, SwinSizes
from parsing_models.parsers.interface import MEMORY_MIB, Parser, Preprocessing
from parsing_models.parsers.loading import check_label_set, read_weights
from pipeline.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pipeline.labels.sets import LIP
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_strict, read_state_dict
from reid_train.engine.runtime import Runtime

INPUT = (572, 384)
# What a parser has beyond the backbone: the optional part of a pre-trained start.
HEADS = ("context_encoding.*", "edge.*", "decoder.*", "fushion.*", "semantic_weight")
BACKBONE = "backbone."


def load_solider(
    kind: str,
    weights: Path | str | Mapping[str, Any] | None,
    *,
    device: str,
    options: Mapping[str, Any],
) -> Parser:
    """``parsing_models.load_parser`` for ``solider``.

    options: ``semantic_weight`` (see ``build``), ``label_set`` (default: LIP), ``input_size``
    (default: 572 x 384), ``memory_mib``.
    """
    with _training_arguments():
        given = read_weights(kind, weights)
    runtime = Runtime.create(device)
    network = build(
        given.state, semantic_weight=options.get("semantic_weight"), source=given.source
    )
    label_set = check_label_set(options.get("label_set", LIP), network.classes)
    height, width = options.get("input_size", INPUT)
    return Parser(
        network=SoliderFusion(network).to(memory_format=torch.channels_last).to(runtime.device),
        label_set=label_set,
        preprocessing=Preprocessing((int(height), int(width)), "rgb", IMAGENET_MEAN, IMAGENET_STD),
        device=runtime.device,
        name=kind,
        facts={
            "weights_sha256": given.sha256,
            # As given: float32 would write 0.8 as 0.800000012.
            "semantic_weight": round(float(network.semantic_weight), 6),
        },
        memory_mib=int(options.get("memory_mib", MEMORY_MIB)),
    )


def build(
    state: Mapping[str, Tensor], *, semantic_weight: Any = None, source: str = "state dict"
) -> Solider:
    """SOLIDER's parser in eval mode with the weights of a state dict, its sizes read off them.

    semantic_weight: what the weights were trained at. Files written here say so themselves
    (``semantic_weight`` in the state dict); the authors' do not, and no value is assumed: their
    text says 0.8, their training script leaves it at 0, and the two give other label maps.

    Raises ``ReidpipeError`` for a backbone without heads (all that the authors publish), a
    semantic weight that is missing or contradicts the file's, and weights of another network.
    """
    if not any(key.startswith("fushion.") for key in state):
        plain = any(key.startswith(("stages.", f"{BACKBONE}stages.")) for key in state)
        what = "a SOLIDER backbone from pre-training" if plain else "weights of another network"
        raise ReidpipeError(
            f"found {what} in {source} (no fushion.* entries); expected a trained SOLIDER parser, "
            "which its authors do not publish; train one from the backbone, or type "
            "--model schp-tiny"
        )
    semantic = _semantic_weight(state.get("semantic_weight"), semantic_weight, source)
    network = Solider(SoliderSizes.of(state), semantic_weight=semantic)
    floats = {key: value.float() for key, value in state.items() if key != "semantic_weight"}
    optional = ["semantic_weight"]
    if semantic < 0:  # The authors' code then builds no controller.
        optional.append("semantic_embed_*")
    load_strict(network, floats, optional=optional, source=source)
    return network.eval()


def backbone_state(path: Path | str) -> dict[str, Tensor]:
    """The backbone of a SOLIDER pre-training file, named as in ``Solider``: a start to train from.

    Takes the teacher, and of it the keys under ``backbone.`` (the rest is the pre-training's
    head); a file that holds the backbone alone gives all of its keys. Load it with
    ``load_strict(network, state, optional=HEADS)``, the network being
    ``Solider(SoliderSizes.of(state), semantic_weight=...)``.
    Raises ``ReidpipeError`` when there is no such backbone in the file.
    """
    with _training_arguments():
        state = read_state_dict(path)
    if any(key.startswith(BACKBONE) for key in state):
        state = {
            key.removeprefix(BACKBONE): value
            for key, value in state.items()
            if key.startswith(BACKBONE)
        }
    network = Swin(SwinSizes.of(state), semantic_weight=0.0)
    load_strict(network, state, optional=HEADS, source=str(path))
    own = network.state_dict().keys() - {"semantic_weight"}
    return {key: value for key, value in state.items() if key in own}


def _training_arguments() -> Any:
    # Pre-training files hold their command line too: a plain object, it runs no code.
    return torch.serialization.safe_globals([argparse.Namespace])


def _semantic_weight(stored: Tensor | None, given: float | None, source: str) -> float:
    if stored is None:
        if given is None:
            raise ReidpipeError(
                f"found no semantic weight in {source}; expected the one it was trained at (the "
                "authors' text says 0.8, their training script runs at 0.0, and label maps "
                "differ); give semantic_weight=0.8 or semantic_weight=0.0"
            )
        return float(given)
    known = float(stored)
    if given is not None and not math.isclose(given, known, abs_tol=1e-6):
        raise ReidpipeError(
            f"found semantic_weight={given:g} for weights trained at {known:g} ({source}); "
            "expected no other value; leave semantic_weight out"
        )
    return known
