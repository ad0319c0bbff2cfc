"""SOLIDER's parser network (Chen et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parsing_models.networks.schp.network import Decoder, Edge, PyramidPooling, SCHPOutput, Widths
from parsing_models.networks.swin import Swin, SwinSizes
from reid_train.engine.checkpoint import extent_of


@dataclass(frozen=True)
class SoliderSizes:
    """backbone: of the Swin; heads: of SCHP's heads (their ``layers``, ``stem`` and ``planes`` are
    of no meaning here)."""

    backbone: SwinSizes
    heads: Widths

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> SoliderSizes:
        """Read the sizes off a state dict; heads it does not hold get the published sizes."""
        backbone = SwinSizes.of(state)

        def rows(key: str, default: int) -> int:
            return extent_of(state, key, 0, default)

        heads = Widths(
            classes=rows("fushion.4.weight", 20),
            context=rows("context_encoding.bottleneck.0.weight", 512),
            head=rows("fushion.0.weight", 256),
            skip=rows("decoder.conv2.0.weight", backbone.dim // 2),
            edge=rows("edge.conv1.0.weight", 2 * backbone.dim),
        )
        return cls(backbone, heads)


def _norm(channels: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


class Solider(Swin):
    """``forward(images N,3,H,W, normalised RGB) -> SCHPOutput``, maps at a quarter of the input.

    Named like the published parser, so its state dict is the authors' with ``semantic_weight``
    added. Plain batch norm and ReLU in the heads, where SCHP has in-place ones.
    """

    def __init__(self, sizes: SoliderSizes, *, semantic_weight: float) -> None:
        super().__init__(sizes.backbone, semantic_weight=semantic_weight)
        self.classes = sizes.heads.classes
        heads, levels = sizes.heads, sizes.backbone.widths
        self.context_encoding = PyramidPooling(levels[3], heads.context, _norm)
        self.edge = Edge(levels[:3], heads.edge, _norm)
        self.decoder = Decoder(heads, levels[0], _norm)
        self.fushion = nn.Sequential(
            nn.Conv2d(heads.head + 3 * heads.edge, heads.head, 1, bias=False),
            nn.BatchNorm2d(heads.head),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(heads.head, heads.classes, 1),
        )

    def forward(self, images: Tensor) -> SCHPOutput:
        x2, x3, x4, x5 = self.features(images)
        parsing, feature = self.decoder(self.context_encoding(x5), x2)
        edge, edge_feature = self.edge(x2, x3, x4)
        fusion = self.fushion(torch.cat([feature, edge_feature], 1))
        return SCHPOutput(fusion, parsing, edge)


class SoliderFusion(nn.Module):
    """SOLIDER reduced to the output in use: N,3,H,W -> logits N,C,H/4,W/4."""

    def __init__(self, network: Solider) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs).fusion
