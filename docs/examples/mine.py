"""A loss and a trunk of one's own: reidpipe --plugin mine.py train my.yaml"""

import torch
from torch import nn

from pipeline.plugins import register


@register.loss("soft-margin")
class SoftMargin(nn.Module):
    """The other identities' logits N,C against the right one's, each pair by itself."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        right = logits.gather(1, labels[:, None])
        return nn.functional.softplus(self.scale * (logits.float() - right)).mean()


@register.trunk("two-layers")
class TwoLayers(nn.Module):
    """Normalised images N,3,H,W -> embedding N,D."""

    def __init__(self, *, input_size: tuple[int, int], width: int = 32):
        super().__init__()
        self.feature_dims = {"embedding": width}
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=4), nn.ReLU(), nn.Conv2d(width, width, 3, stride=2)
        )

    def forward(self, x, camids=None, views=None):
        return {"embedding": self.layers(x).mean((2, 3))}
