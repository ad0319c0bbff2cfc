"""Identity losses with a margin, on cosine logits N,C of head ``cosine`` with labels N.

All end in the mean cross-entropy of adjusted, scaled cosines, in float32. The defaults are
Simple-ReID's; the papers' face models use larger scales and margins.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.arithmetic import full

# sin^2 of the smallest angle whose cosine float32 tells from 1. d cos(angle + margin) / d cos grows
# without bound towards angle 0; here it ends at some 3000 sin(margin).
_LEAST_SQUARE = 1e-7


class _MarginLoss(nn.Module):
    def __init__(self, scale: float, margin: float) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"scale is {scale}; it must be above 0")
        self.scale, self.margin = scale, margin

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        cosines = full(input)
        classes = torch.arange(cosines.shape[1], device=cosines.device)
        right = labels[:, None] == classes  # N,C
        return F.cross_entropy(self.scale * self._adjust(cosines, right), labels)

    def _adjust(self, cosines: Tensor, right: Tensor) -> Tensor:
        raise NotImplementedError


class CosFace(_MarginLoss):
    """cos - margin for the right class (Wang et al., CVPR 2018)."""

    def __init__(self, *, scale: float = 16.0, margin: float = 0.1) -> None:
        super().__init__(scale, margin)

    def _adjust(self, cosines: Tensor, right: Tensor) -> Tensor:
        return cosines - self.margin * right


class ArcFace(_MarginLoss):
    """cos(angle + margin) for the right class (Deng et al., CVPR 2019).

    Where angle + margin passes pi, beyond which the cosine would rise again, it is
    cos - margin sin(margin) instead (no "easy margin"). Deviation: 1 - cos^2 is kept above 1e-7
    under the root; rounding can make it negative and the official code then returns NaN.
    """

    def __init__(self, *, scale: float = 16.0, margin: float = 0.1) -> None:
        super().__init__(scale, margin)
        if not 0.0 <= margin < math.pi:
            raise ValueError(f"margin is {margin}; it must be an angle in 0..pi")

    def _adjust(self, cosines: Tensor, right: Tensor) -> Tensor:
        sines = (1 - cosines.square()).clamp(min=_LEAST_SQUARE).sqrt()
        turned = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        beyond = cosines <= -math.cos(self.margin)
        turned = torch.where(beyond, cosines - self.margin * math.sin(self.margin), turned)
        return torch.where(right, turned, cosines)


class Circle(_MarginLoss):
    """Circle loss over classes (Sun et al., CVPR 2020): a_p (cos - 1 + margin)
    for the right class with a_p = max(0, 1 + margin - cos), a_n (cos - margin) for the others with
    a_n = max(0, cos + margin); the weights carry no gradient.
    """

    def __init__(self, *, scale: float = 96.0, margin: float = 0.3) -> None:
        super().__init__(scale, margin)

    def _adjust(self, cosines: Tensor, right: Tensor) -> Tensor:
        fixed = cosines.detach()
        positive = F.relu(1 + self.margin - fixed) * (cosines - (1 - self.margin))
        negative = F.relu(fixed + self.margin) * (cosines - self.margin)
        return torch.where(right, positive, negative)
