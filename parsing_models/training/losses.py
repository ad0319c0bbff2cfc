"""What a parser is trained with: Lovasz-softmax, cross-entropy, part edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.labels.sets import IGNORE
from reid_train.engine.arithmetic import full


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """The Lovasz extension of 1 - IoU, mean over the classes present (Berman et al. 2018, eq. 11).

    logits P,C and labels P (int64; ``IGNORE`` is left out), P being all pixels of the batch
    together. Scalar, float32; 0 when no pixel counts.
    """
    counted = labels != IGNORE
    labels = labels[counted]
    if labels.numel() == 0:
        return logits.sum() * 0.0
    probabilities = full(logits[counted]).softmax(1)
    losses = []
    for number in labels.unique().tolist():
        truth = (labels == number).to(probabilities.dtype)
        errors = (truth - probabilities[:, number]).abs()
        errors, order = errors.sort(descending=True)
        # Not a dot product: autocast would take it in bfloat16.
        losses.append((errors * _jaccard_steps(truth[order])).sum())
    return torch.stack(losses).mean()


def _jaccard_steps(truth: Tensor) -> Tensor:
    """Growth of the Jaccard loss as pixels are added in this order (Alg. 1 of the paper)."""
    total = truth.sum()
    jaccard = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def edges(labels: Tensor, *, published: bool = False) -> Tensor:
    """1 where a label changes to the right, below or diagonally, dilated 3x3, else 0.

    Labels N,H,W int64 -> N,H,W int64; transitions to and from ``IGNORE`` do not count, and ignored
    pixels stay ``IGNORE``. published: as in SCHP's code a change to the pixel below is marked there
    (else here), and ignored pixels are no edge.
    """
    found = torch.zeros_like(labels, dtype=torch.float32)
    height, width = labels.shape[1:]
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        left = max(0, -right)
        here = labels[:, : height - down, left : width - max(0, right)]
        there = labels[:, down:, left + right : width + min(0, right)]
        change = (here != there) & (here != IGNORE) & (there != IGNORE)
        top = down if published and not right else 0
        found[:, top : height - down + top, left : width - max(0, right)] += change
    grown = F.max_pool2d((found > 0).float()[:, None], 3, 1, 1)[:, 0].long()
    return grown if published else torch.where(labels == IGNORE, labels, grown)


def edge_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of edge logits N,2,H,W against ``edges`` N,H,W, each side weighted by the
    other's share of the batch, as in SCHP (edges are few)."""
    counted, logits = target != IGNORE, full(logits)
    share = target[counted].to(logits.dtype).sum() / counted.sum().clamp(min=1)
    weight = torch.stack([share, 1 - share])
    total = F.cross_entropy(logits, target, weight, ignore_index=IGNORE, reduction="sum")
    # A batch that is ignored throughout has weight 0, not a loss of 0/0.
    return total / weight[target[counted]].sum().clamp(min=1e-6)


def refined_targets(logits: Tensor, labels: Tensor, trust: float) -> Tensor:
    """SCHP's refined labels: softmax(trust x logits + (1 - trust) x one-hot), N,C,H,W in 0..1.

    logits N,C,H,W of the averaged model; labels int64 N,H,W; trust is n / (n + 1) in cycle n. As
    published it mixes logits with a one-hot, so the labels count for little. Where labels are
    ``IGNORE`` there is nothing to mix in (the authors turn such pixels into background, in the
    label map itself); ``soft_loss`` leaves them out.
    """
    known, logits = labels != IGNORE, full(logits)
    onehot = F.one_hot(labels.where(known, 0), logits.shape[1]).permute(0, 3, 1, 2)
    mixed = trust * logits + (1 - trust) * (onehot * known[:, None]).to(logits.dtype)
    return mixed.softmax(1)


def soft_loss(
    logits: Tensor, targets: Tensor, counted: Tensor, *, per_class: bool = False
) -> Tensor:
    """KL(targets || softmax(logits)), mean over the ``counted`` pixels (bool N,H,W); per_class:
    over pixels times classes, as in SCHP's code, which makes it C times smaller than the
    cross-entropy it takes the place of.
    """
    each = F.kl_div(full(logits).log_softmax(1), targets, reduction="none").sum(1)
    mean = each[counted].sum() / counted.sum().clamp(min=1)
    return mean / logits.shape[1] if per_class else mean
