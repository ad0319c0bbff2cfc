"""What a parser is trained on: SCHP's losses on a batch of images and label maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parsing_models.networks.schp.network import SCHPOutput
from parsing_models.training.losses import (
    edge_loss,
    edges,
    lovasz_softmax,
    refined_targets,
    soft_loss,
)
from parsing_models.training.manner import OURS, Manner
from pipeline.labels.sets import IGNORE
from reid_train.engine.arithmetic import full
from reid_train.engine.task import Losses, ReidTask, Report


@dataclass(frozen=True)
class Cost:
    """Where the losses are taken; the defaults are SCHP's, at full label size on all pixels.

    step: labels are thinned to every ``step``-th row and column, the logits resized to those.
    lovasz_share: random share of the pixels that Lovasz-softmax, a sort per class, looks at.
    """

    step: int = 1
    lovasz_share: float = 1.0


class ParsingTask(ReidTask):
    """A network with SCHP's losses, on batches of ``images`` N,3,H,W and ``labels`` int64 N,H,W.

    network: an ``SCHP``, or any module with logits N,C,h,w (then one head and no edges). On each
    head 0.5 Lovasz-softmax + 0.5 cross-entropy; on the edges, their cross-entropy.

    With a ``teacher`` (self-correction, from its first cycle on) cross-entropy gives way to the
    divergence from refined labels. SCHP's consistency term is left out: it compares an edge map
    taken from arg-maxed labels with arg-maxed edges where both are 1, so it is 0 without gradient,
    and the mean of nothing (NaN) where they do not overlap.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        align_corners: bool = True,
        cost: Cost | None = None,
        manner: Manner = OURS,
    ) -> None:
        super().__init__()
        self.network = network
        self.align_corners = align_corners
        self.cost = cost or Cost()
        self.manner = manner
        self.correct(None, 0.0)

    def correct(self, teacher: nn.Module | None, trust: float) -> None:
        """From here on refine labels by ``teacher``'s logits, weighted ``trust`` in 0..1."""
        # In a list, so that it is no part of what trains, is averaged or is saved with the task.
        self._teacher, self._trust = [teacher], trust

    def training_forward(self, batch: dict[str, Tensor]) -> tuple[Losses, Report]:
        images, labels = batch["images"], _thinned(batch["labels"], self.cost.step)
        heads, edge = _heads(self.network(images))
        logits = {name: self._resized(head, labels) for name, head in heads.items()}
        pixels = torch.randperm(labels.numel(), device=labels.device)
        pixels = pixels[: max(1, round(labels.numel() * self.cost.lovasz_share))]
        borders = edges(labels, published=self.manner.edges) if edge is not None else None
        targets = self._refined(images, labels, borders)
        known = labels
        if targets and self.manner.padding_counts:
            known = labels.where(labels != IGNORE, 0)
        losses: Losses = {}
        for name, head in logits.items():
            if not targets:
                losses[name] = 0.5 * F.cross_entropy(head, labels, ignore_index=IGNORE)
            else:
                losses[name] = 0.5 * self._divergence(head, targets[name], known)
            # Theirs comes to the fused head when it has turned the padding into background.
            seen = known if name == "fusion" else labels
            chosen = _flat(head)[pixels], seen.flatten()[pixels]
            losses[f"{name}/lovasz"] = 0.5 * lovasz_softmax(*chosen)
        if edge is not None and borders is not None:
            if "edge" in targets:
                losses["edge"] = self._divergence(
                    self._resized(edge, labels), targets["edge"], known
                )
            else:
                losses["edge"] = edge_loss(self._resized(edge, labels), borders)
        with torch.no_grad():
            first = next(iter(logits.values()))
            right = (first.argmax(1) == labels)[labels != IGNORE].float().mean()
        return losses, {"pixel_accuracy": right}

    def _divergence(self, logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
        counted = known != IGNORE
        return soft_loss(logits, target, counted, per_class=self.manner.kl_per_class)

    @torch.no_grad()
    def _refined(self, images: Tensor, labels: Tensor, borders: Tensor | None) -> dict[str, Tensor]:
        """What the teacher makes of the labels, by head, and of edges where these are refined."""
        teacher = self._teacher[0]
        if teacher is None:
            return {}
        teacher.train(self.manner.batch_norms)
        heads, edge = _heads(teacher(images))
        known = labels.where(labels != IGNORE, 0) if self.manner.padding_counts else labels
        whole = heads.get("fusion") if self.manner.fused else None
        found = {
            name: refined_targets(
                self._resized(head if whole is None else whole, labels), known, self._trust
            )
            for name, head in heads.items()
        }
        if self.manner.refined_edges and edge is not None and borders is not None:
            found["edge"] = refined_targets(self._resized(edge, labels), borders, self._trust)
        return found

    def _resized(self, logits: Tensor, labels: Tensor) -> Tensor:
        corners = self.align_corners
        size = labels.shape[1:]
        return F.interpolate(full(logits), size, mode="bilinear", align_corners=corners)


def _heads(output: Any) -> tuple[dict[str, Tensor], Tensor | None]:
    if isinstance(output, SCHPOutput):
        return {"fusion": output.fusion, "parsing": output.parsing}, output.edge
    return {"logits": output}, None


def _thinned(labels: Tensor, step: int) -> Tensor:
    if step == 1:
        return labels
    # The corners stay corners, as in the logits' own resizing.
    rows, columns = (
        torch.linspace(0, size - 1, size // step, device=labels.device).round().long()
        for size in labels.shape[1:]
    )
    return labels[:, rows][:, :, columns]


def _flat(logits: Tensor) -> Tensor:
    return logits.permute(0, 2, 3, 1).flatten(0, 2)  # N,C,H,W -> P,C
