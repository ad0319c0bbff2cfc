"""Triplet loss with the hardest positive and negative of the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.arithmetic import full


def euclidean_distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances of rows, N,D and M,D -> N,M; squares are kept above 1e-12 so that the
    gradient of the root stays finite.
    """
    squares = a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2 * (a @ b.T)
    return squares.clamp(min=1e-12).sqrt()


def cosine_distances(a: Tensor, b: Tensor) -> Tensor:
    """1 - cosine of rows, N,D and M,D -> N,M, in 0..2."""
    return 1 - F.normalize(a) @ F.normalize(b).T


METRICS = {"euclidean": euclidean_distances, "cosine": cosine_distances}


class Triplet(nn.Module):
    """Batch-hard triplet loss (Hermans et al. 2017) of features N,D with labels N, in float32.

    For each image the farthest of its identity against the nearest of the others: the mean of
    max(0, d_ap - d_an + ``margin``), or of log(1 + exp(d_ap - d_an)) when ``margin`` is None.
    Identities may have any number of images (the official CLIP-ReID code needs equal counts); an
    image is its own positive at distance about 0, so one alone in its identity still pushes others
    away. A batch with a single identity has no negatives: the loss is 0 with a zero gradient.
    """

    def __init__(self, *, margin: float | None = 0.3, metric: str = "euclidean") -> None:
        super().__init__()
        if metric not in METRICS:
            raise ValueError(f"metric is {metric!r}; it must be one of {sorted(METRICS)}")
        self.margin = margin
        self.distances = METRICS[metric]

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        feature = full(input)
        with torch.autocast(feature.device.type, enabled=False):
            distances = self.distances(feature, feature)  # N,N
        same = labels[:, None] == labels[None, :]
        positive = distances.masked_fill(~same, -torch.inf).amax(1)
        negative = distances.masked_fill(same, torch.inf).amin(1)
        if self.margin is None:
            return F.softplus(positive - negative).mean()
        return F.relu(positive - negative + self.margin).mean()
