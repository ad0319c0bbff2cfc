"""CLIP's image encoders as trunks by name: sizes by architecture, batch norms behind them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError
from reid_train.models.clip.architectures import image_sizes
from reid_train.models.clip.tiny.sizes import VISUAL
from reid_train.models.clip.visual import ClipResNet, ClipVit
from reid_train.models.heads import BNNeck


class NeckedFeatures(nn.Module):
    """A CLIP trunk whose ``embedding`` is taken after the two batch norms instead of before them:
    cat(bottleneck(feature), bottleneck_proj(projected)), N,D (CLIP-ReID's NECK_FEAT "after").
    """

    def __init__(
        self, trunk: ClipVit | ClipResNet, bottleneck: nn.Module, bottleneck_proj: nn.Module
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.feature_dims = trunk.feature_dims
        self.colours, self.settled = trunk.colours, getattr(trunk, "settled", {})
        self.activation = getattr(trunk, "activation", None)
        self.bottleneck = bottleneck
        self.bottleneck_proj = bottleneck_proj

    @property
    def level_dims(self) -> tuple[int, ...]:
        return self.trunk.level_dims

    @property
    def stride(self) -> int:
        return self.trunk.stride  # type: ignore[union-attr]  # a ResNet has none, and this neither

    @property
    def patch(self) -> int:
        return self.trunk.patch  # type: ignore[union-attr]

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        features = self.trunk(x, camids=camids, views=views)
        after = [
            self.bottleneck(features["feature"]),
            self.bottleneck_proj(features["projected"]),
        ]
        features["embedding"] = torch.cat(after, dim=1)
        return features


def clip_vit(*, neck: str = "before", architecture: str = "ViT-B-16", **options: Any) -> nn.Module:
    """Trunk ``clip-vit-b16``: ``ClipVit(**options)``, with batch norms where ``neck`` says and the
    sizes of any other ViT of open_clip by ``architecture``.
    """
    sizes = _sizes(architecture, "clip-vit-b16")
    sizes |= {"stride": sizes["patch"], "architecture": architecture}
    return with_neck(ClipVit(**{**sizes, **options}), neck)


def clip_resnet(*, neck: str = "before", architecture: str = "RN50", **options: Any) -> nn.Module:
    """Trunk ``clip-rn50``: ``ClipResNet(**options)``, likewise with any ResNet of open_clip."""
    sizes = {**_sizes(architecture, "clip-rn50"), "architecture": architecture}
    return with_neck(ClipResNet(**{**sizes, **options}), neck)


def _sizes(architecture: str, trunk: str) -> dict[str, Any]:
    sizes = image_sizes(architecture)
    other = "clip-rn50" if trunk == "clip-vit-b16" else "clip-vit-b16"
    if ("patch" in sizes) != (trunk == "clip-vit-b16"):
        raise ReidpipeError(
            f"found architecture '{architecture}' for trunk '{trunk}', which is of the other kind; "
            f"expected trunk '{other}'; type --set model.trunk={other}"
        )
    return sizes


def clip_tiny_resnet(**options: Any) -> nn.Module:
    """Trunk ``clip-tiny``: ``clip_resnet`` at the size that ships with the package."""
    return clip_resnet(**{**VISUAL, **options})


def with_neck(trunk: ClipVit | ClipResNet, neck: str) -> nn.Module:
    """``trunk`` with fresh batch norms on its retrieval feature when ``neck`` is "after"."""
    if neck not in ("before", "after"):
        raise ReidpipeError(
            f"found neck '{neck}'; expected before or after (batch norm); "
            "type --set model.options.neck=after"
        )
    if neck == "before":
        return trunk
    dims = trunk.feature_dims
    return NeckedFeatures(trunk, BNNeck(dims["feature"]), BNNeck(dims["projected"]))
