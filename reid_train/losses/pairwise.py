"""Losses over the pairs of a batch, on cosines of features N,D with labels N (Simple-ReID).

An image is no positive of itself. Cosines are taken in float32 whatever autocast says. Pairs that
do not take part are masked with minus infinity, which is exact; the official code subtracts
99999999, which half precision cannot hold. An image without a positive or without a negative in
the batch adds 0 and still counts in the mean. (Simple-ReID's triplet is ``triplet.Triplet``: its
"cosine" distance is -cosine, ours 1 - cosine, and the loss sees differences only.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.arithmetic import full


def _pairs(feature: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines N,N, and which pairs are positive and negative, bool N,N."""
    with torch.autocast(feature.device.type, enabled=False):
        unit = F.normalize(full(feature), dim=1)
        cosines = unit @ unit.T
    same = labels[:, None] == labels[None, :]
    return cosines, same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same


def _log_sum(scores: Tensor, chosen: Tensor) -> Tensor:
    """log sum exp over the chosen entries of each row; minus infinity where there are none."""
    return torch.logsumexp(scores.masked_fill(~chosen, -torch.inf), dim=1)


class PairContrastive(nn.Module):
    """Mean over anchors of the mean over positives p of
    -log( e^{scale s_ip} / (e^{scale s_ip} + sum over negatives n of e^{scale s_in}) ).

    Other positives are not in the denominator, unlike in SupCon.
    """

    def __init__(self, *, scale: float = 16.0) -> None:
        super().__init__()
        self.scale = _above_zero(scale)

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        cosines, positive, negative = _pairs(input, labels)
        scores = self.scale * cosines
        terms = F.softplus(_log_sum(scores, negative)[:, None] - scores)  # N,N
        sums = terms.masked_fill(~positive, 0).sum(1)
        return (sums / positive.sum(1).clamp(min=1)).mean()


class PairCosFace(nn.Module):
    """Mean over anchors of log(1 + sum over n and p of e^{scale (s_in - s_ip + margin)}): CosFace
    (Wang et al., CVPR 2018) with the batch's images in the place of class weights.
    """

    def __init__(self, *, scale: float = 16.0, margin: float = 0.1) -> None:
        super().__init__()
        self.scale, self.margin = _above_zero(scale), margin

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        cosines, positive, negative = _pairs(input, labels)
        near = _log_sum(self.scale * (cosines + self.margin), negative)
        far = _log_sum(-self.scale * cosines, positive)
        return F.softplus(near + far).mean()


class PairCircle(nn.Module):
    """Circle loss over pairs (Sun et al., CVPR 2020): the mean over anchors of
    log(1 + sum_n e^{scale a_n (s_in - margin)} sum_p e^{-scale a_p (s_ip - 1 + margin)}) with
    a_n = max(0, s_in + margin) and a_p = max(0, 1 + margin - s_ip), which carry no gradient.
    """

    def __init__(self, *, scale: float = 48.0, margin: float = 0.35) -> None:
        super().__init__()
        self.scale, self.margin = _above_zero(scale), margin

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        cosines, positive, negative = _pairs(input, labels)
        fixed = cosines.detach()
        weight_n = self.scale * F.relu(fixed + self.margin)
        weight_p = self.scale * F.relu(1 + self.margin - fixed)
        near = _log_sum(weight_n * (cosines - self.margin), negative)
        far = _log_sum(weight_p * (1 - self.margin - cosines), positive)
        return F.softplus(near + far).mean()


def _above_zero(scale: float) -> float:
    if scale <= 0:
        raise ValueError(f"scale is {scale}; it must be above 0")
    return scale
