"""Contrast with prototypes: slowly moving unit vectors, one per identity or per camera of it.

The published codes change their memory inside the backward pass. Here ``forward`` compares with
the prototypes as they are and remembers features and labels, and ``step`` moves the prototypes:
call it once per optimiser step, after the optimiser's. So a loss that is only looked at changes
nothing, several batches that share an optimiser step count as one batch, and a step that the fp16
scaler skips still moves the memory (as in the published codes: it is the gradient that overflowed,
not the features). In eval mode nothing is remembered.

Prototypes are buffers, but of no state dict: their number changes with the clusters, an average of
weights must not average them, and a deployed model needs none. A hook saves ``saved()`` and gives
it to ``restore``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.arithmetic import full

# Far more batches than share an optimiser step; beyond, somebody forgot to call ``step``.
_MOST_REMEMBERED = 256


class _Prototypes(nn.Module):
    prototypes: Tensor  # K,D of the task's type, unit rows; empty until the first ``rebuild``

    def __init__(self, *, temperature: float, momentum: float) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; it must be above 0")
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum is {momentum}; it must be in 0..1")
        self.temperature, self.momentum = temperature, momentum
        self.register_buffer("prototypes", torch.empty(0, 0), persistent=False)
        self.remembered: list[tuple[Tensor, Tensor]] = []

    def saved(self) -> dict[str, Tensor]:
        """Copies of the buffers, by name."""
        return {name: value.clone() for name, value in self.named_buffers()}

    def restore(self, saved: dict[str, Tensor]) -> None:
        """Back to what ``saved`` gave, whatever the number of prototypes now."""
        for name, value in self.named_buffers():
            setattr(self, name, saved[name].to(value.device, copy=True))
        self.remembered.clear()

    @torch.no_grad()
    def step(self) -> None:
        """Move the prototypes by what ``forward`` has seen since the last call, as one batch."""
        if self.remembered:
            features, rows = (torch.cat(part) for part in zip(*self.remembered, strict=True))
            self.remembered.clear()
            self._move(features, rows)

    def _scores(self, unit: Tensor) -> Tensor:
        """Cosines of unit features N,D with the K prototypes over the temperature, N,K."""
        if len(self.prototypes) == 0:
            raise RuntimeError("the memory is empty; call rebuild first")
        # A copy: in parallel training each forward overwrites buffers in place, unseen by autograd.
        return unit @ self.prototypes.clone().T / self.temperature

    def _remember(self, unit: Tensor, rows: Tensor) -> None:
        if not self.training:
            return
        if len(self.remembered) == _MOST_REMEMBERED:
            raise RuntimeError(f"{_MOST_REMEMBERED} batches without a step; call step() after each")
        self.remembered.append((unit.detach(), rows))

    def _move(self, features: Tensor, rows: Tensor) -> None:
        """Each feature in its order: prototype <- norm(momentum * prototype + (1 - momentum) *
        feature). ``rows`` int64 N in 0..K-1.
        """
        # The n-th features of all prototypes are independent of each other and move together.
        turn = (rows[:, None] == rows).tril(-1).sum(1)
        moved = self.prototypes.clone()
        for number in range(int(turn.max()) + 1 if len(turn) else 0):
            now = turn == number
            own = rows[now]
            moved[own] = F.normalize(
                self.momentum * moved[own] + (1 - self.momentum) * features[now], dim=1
            )
        self.prototypes = moved


class PrototypeMemory(_Prototypes):
    """PCL-CLIP's loss (Li & Gong, arXiv 2310.17218, L_pcl): the mean of -log softmax over all
    prototypes of cos(feature, prototype) / ``temperature`` at the feature's own identity.

    ``hard`` moves each prototype once per step, towards the feature of its identity with the
    smallest cosine to it (the first of equals); otherwise every feature moves it, in the batch's
    order. ``momentum`` is the old prototype's share: the published 0.2 gives new features 0.8.
    Label -1 marks images that belong to no cluster: they take part in nothing.
    """

    def __init__(
        self, *, temperature: float = 0.05, momentum: float = 0.2, hard: bool = True
    ) -> None:
        super().__init__(temperature=temperature, momentum=momentum)
        self.hard = hard

    @torch.no_grad()
    def rebuild(self, features: Tensor, labels: Tensor) -> None:
        """Prototypes = normalised means of the L2-normalised features N,D of each label (int64 N,
        -1 or 0..K-1; K may change). They lie where the memory does.

        Raises ValueError when there is no label, or a label below K has no image.
        """
        kept = labels >= 0
        unit, labels = _unit(features)[kept], labels[kept]
        self.prototypes = _means(unit, labels, _count(labels)).to(self.prototypes)
        self.remembered.clear()

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        """input N,D, labels int64 N in -1..K-1 -> scalar; 0 when all labels are -1."""
        with torch.autocast(input.device.type, enabled=False):
            unit = _unit(input)
            scores = self._scores(unit)
            total = F.cross_entropy(scores, labels, ignore_index=-1, reduction="sum")
        kept = labels >= 0
        self._remember(unit, labels)
        return total / kept.sum().clamp(min=1)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the prototypes by one batch: features N,D (any norm), labels as in ``forward``."""
        self._move(_unit(features), labels)

    def _move(self, features: Tensor, rows: Tensor) -> None:
        kept = rows >= 0
        features, rows = features[kept], rows[kept]
        if self.hard:
            chosen = self._hardest(features, rows)
            features, rows = features[chosen], rows[chosen]
        super()._move(features, rows)

    def _hardest(self, features: Tensor, rows: Tensor) -> Tensor:
        """Indices into N, one per label that occurs."""
        cosines = (features * self.prototypes[rows]).sum(1)
        by_cosine = cosines.argsort(stable=True)
        ordered = rows[by_cosine]
        place = torch.arange(len(rows), device=rows.device)
        first = place.new_full((len(self.prototypes),), len(rows))
        first = first.scatter_reduce(0, ordered, place, "amin")
        return by_cosine[first[first < len(rows)]]


class CameraPrototypes(_Prototypes):
    """Camera-aware proxies, CAP (Wang et al., AAAI 2021): one prototype per identity and camera.

    With p(k) = softmax of cos(feature, prototype k) / ``temperature`` over the prototypes named:
    intra-camera, -log p(own prototype) over all prototypes of the image's camera; inter-camera,
    the mean over the prototypes of the image's identity (in all cameras, its own included) of
    -log p, over these and the ``negatives`` nearest prototypes of other identities, times
    ``inter_weight``. Both are averaged over the images of each camera and summed over the cameras
    of the batch, as in the authors' code. The inter-camera part is left out before epoch
    ``inter_from`` (theirs: the sixth, number 5), told by ``epoch``. Images of label -1 or camera -1
    (unknown) take part in nothing.

    Deviation: with fewer other prototypes than ``negatives`` all of them are taken once; the
    official code then fills up with the positives.
    """

    takes = ("labels", "cameras")
    identities: Tensor  # K int64
    cameras: Tensor  # K int64

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        momentum: float = 0.2,
        negatives: int = 50,
        inter_weight: float = 0.5,
        inter_from: int = 0,
    ) -> None:
        super().__init__(temperature=temperature, momentum=momentum)
        if negatives < 1:
            raise ValueError(f"negatives is {negatives}; it must be 1 or more")
        self.negatives, self.inter_weight = negatives, inter_weight
        self.inter_from, self.epoch = inter_from, 0
        self.register_buffer("identities", torch.empty(0, dtype=torch.long), persistent=False)
        self.register_buffer("cameras", torch.empty(0, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def rebuild(self, features: Tensor, labels: Tensor, camids: Tensor) -> None:
        """Prototypes = normalised means of the L2-normalised features N,D of each (label, camera)
        that occurs; none where no image with a label has a camera. labels int64 N, -1 = left out;
        camids int64 N, -1 = unknown, left out. They lie where the memory does.
        Raises ValueError when there is no label.
        """
        if not bool((labels >= 0).any()):
            raise ValueError("no image has a label; there is nothing to remember")
        kept = (labels >= 0) & (camids >= 0)
        unit, pairs = _unit(features)[kept], torch.stack([labels[kept], camids[kept]], dim=1)
        found, rows = pairs.unique(dim=0, return_inverse=True)
        device = self.prototypes.device
        self.prototypes = _means(unit, rows, len(found)).to(self.prototypes)
        self.identities, self.cameras = found.to(device).unbind(1)
        self.remembered.clear()

    def forward(
        self, input: Tensor, labels: Tensor, camids: Tensor, *, inter: bool | None = None
    ) -> Tensor:
        """input N,D, labels and camids int64 N -> scalar; 0 when no image has both. ``inter``: with
        the inter-camera part; None leaves it to the epoch.

        Raises ValueError for a label in a camera where ``rebuild`` saw none of its images.
        """
        kept = (labels >= 0) & (camids >= 0)
        if not bool(kept.any()):
            return input[kept].sum()
        with torch.autocast(input.device.type, enabled=False):
            unit, labels, camids = _unit(input)[kept], labels[kept], camids[kept]
            scores = self._scores(unit)
        same = labels[:, None] == self.identities  # N,K
        within = camids[:, None] == self.cameras
        own = same & within
        if not bool(own.any(1).all()):
            raise ValueError("an image has a label and a camera that rebuild did not see together")
        self._remember(unit, own.int().argmax(1))
        terms = _contrast(scores, own, within)
        if self.epoch >= self.inter_from if inter is None else inter:
            terms = terms + self.inter_weight * _contrast(
                scores, same, same | self._nearest_others(scores.detach(), same)
            )
        per_camera = (camids[:, None] == camids).sum(1)  # images of the same camera, 1 or more
        return (terms / per_camera).sum()

    def _nearest_others(self, scores: Tensor, same: Tensor) -> Tensor:
        others = scores.masked_fill(same, -torch.inf)
        nearest = others.topk(min(self.negatives, others.shape[1]), dim=1).indices
        return torch.zeros_like(same).scatter(1, nearest, True) & ~same


def _unit(features: Tensor) -> Tensor:
    return F.normalize(full(features), dim=1)


def _count(labels: Tensor) -> int:
    present = labels.unique()
    if len(present) == 0:
        raise ValueError("no image has a label; there is nothing to remember")
    count = int(present[-1]) + 1
    if len(present) != count:
        raise ValueError(f"{len(present)} labels up to {count - 1}; every label needs an image")
    return count


def _means(unit: Tensor, rows: Tensor, count: int) -> Tensor:
    """Normalised means count,D; a sum has the direction of a mean."""
    sums = torch.zeros(count, unit.shape[1], dtype=unit.dtype, device=unit.device)
    return F.normalize(sums.index_add_(0, rows, unit), dim=1)


def _contrast(scores: Tensor, positive: Tensor, candidates: Tensor) -> Tensor:
    """Mean over positives of -log softmax over the candidates, per row; one positive at least."""
    chances = F.log_softmax(scores.masked_fill(~candidates, -torch.inf), dim=1)
    return -chances.masked_fill(~positive, 0).sum(1) / positive.sum(1)
