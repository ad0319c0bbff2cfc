"""IANet: spatial and channel interaction and aggregation inside a ResNet-50."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reid_train.engine.arithmetic import full
from reid_train.models.resnet import ResNet50


def gaussian_weights(
    size: tuple[int, int], alpha_x: float, alpha_y: float, *, device: torch.device | None = None
) -> Tensor:
    """hw,hw float32: row-wise soft-max over positions j of -(dx^2/(2 ax^2) + dy^2/(2 ay^2)), the
    distances from position i in cells of the map ``size`` (h, w), positions in row-major order.

    The exponent is a sum over the axes, so the soft-max is the Kronecker product of two small ones.
    """
    axes = []
    for length, alpha in zip(size, (alpha_y, alpha_x), strict=True):
        cells = torch.arange(length, device=device, dtype=torch.float32)
        squares = (cells[:, None] - cells[None, :]).square()
        axes.append((-squares / (2 * alpha**2)).softmax(dim=1))
    return torch.kron(axes[0], axes[1])


class InteractionAggregation(nn.Module):
    """IA block, maps N,C,h,w -> N,C,h,w (Hou et al. 2019, "Interaction-and-Aggregation Network for
    Person Re-identification", sections 3.1 and 3.2), as the authors' models/IA.py computes it.

    Spatial: with X of C x hw, A = softmax(X^T X / sqrt(C)) by rows, G the fixed Gaussian of
    :func:`gaussian_weights`, S = softmax(A * G) and Z = X + W1(X S^T). The second soft-max is the
    authors': A * G is tiny, so S is close to a plain average over the map. Channel: with Z of
    C x hw, R = softmax(Z Z^T), without a scale and so close to one-hot, and out = Z + W2(R Z).
    W1 and W2 are batch norms whose scale and shift start at 0: the new block is the identity.

    Deviations: the authors fix G for the 256x128 input of their networks; here it follows the map,
    with the same ``alpha_x`` and ``alpha_y`` in cells. Mixed precision stays outside: R takes
    exponents of sums over the map.
    """

    def __init__(self, channels: int, *, alpha_x: float, alpha_y: float) -> None:
        super().__init__()
        self.alpha_x, self.alpha_y = alpha_x, alpha_y
        self.W1 = nn.BatchNorm2d(channels)
        self.W2 = nn.BatchNorm2d(channels)
        for norm in (self.W1, self.W2):
            nn.init.zeros_(norm.weight)

    def similarity(self, x: Tensor) -> Tensor:
        """S of float maps N,C,h,w: N,hw,hw, rows sum to 1."""
        flat = x.flatten(2)  # N,C,hw
        appearance = (flat.transpose(1, 2) @ flat / x.shape[1] ** 0.5).softmax(dim=2)
        height, width = x.shape[2:]
        near = gaussian_weights((height, width), self.alpha_x, self.alpha_y, device=x.device)
        return (appearance * near).softmax(dim=2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = full(x)
            spatial = x.flatten(2) @ self.similarity(x).transpose(1, 2)  # N,C,hw
            z = x + self.W1(spatial.view_as(x))
            flat = z.flatten(2)
            channel = (flat @ flat.transpose(1, 2)).softmax(dim=2) @ flat  # N,C,hw
            return z + self.W2(channel.view_as(x))


class IANet(ResNet50):
    """:class:`ResNet50` with an IA block behind its second and third stage; features, options and
    weights to start from are the same. Until the blocks' norms have learnt a scale it computes
    exactly what the plain network does.

    The published networks take 256x128 images; Gaussian widths are in cells and so stay a fixed
    number of pixels for other sizes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.layer2.append(InteractionAggregation(512, alpha_x=10, alpha_y=20))
        self.layer3.append(InteractionAggregation(1024, alpha_x=5, alpha_y=10))
