"""Losses between parts of images and texts about parts (pi-VL, arXiv 2308.02738).

The authors published no code. What the paper leaves open is marked [choice] and is an option.
Label 0 is the background in every label set of this package.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.labels.sets import IGNORE
from reid_train.data.cells import Cells
from reid_train.engine.arithmetic import full

_LEAST_NORM = 1e-6  # of a vector that is divided by its norm: bounds the gradient
_NEVER = torch.finfo(torch.float32).min  # finite: a row without candidates stays free of NaN


class PartContrast(nn.Module):
    """Contrast of part features and part texts, both ways: L_t2i^part + L_i2t^part (v1 eq. 7, 8).

    Anchors are the (identity, part) pairs present in the batch. Positives are of the same person
    AND the same part; all other pairs of the batch are negatives, among them other parts of the
    same person. The printed equations lack the minus sign. In float32 whatever autocast says.

    [choice] ``normalise`` and ``temperature``: cosines over 0.07; the paper names neither.
    CLIP-ReID's own convention, raw dot products, is ``normalise=False, temperature=1``.
    [choice] The visual side is one mean per (image, part) (``data.cells.pool``) or some of its
    cells (``data.cells.sample``). ``by_pixels``: a row counts as often as it has cells, as anchor,
    positive and negative, so rows whose cells are all alike give what the paper's sum over pixels
    gives; False: each row, and each text as an anchor, weighs the same. Texts are told apart by
    (identity, part): as candidates each counts once, however many images show it.
    [choice] Several positives: the mean over positives, with all of them in the denominator
    (SupCon, as CLIP-ReID does); ``one_positive``: the printed InfoNCE, in whose denominator stands
    one positive and the negatives, meant over positives. An image has one text: there both agree.
    [choice] ``ignore_background`` leaves part 0 out ("person's background"); the paper keeps it.
    """

    takes: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        normalise: bool = True,
        one_positive: bool = False,
        by_pixels: bool = True,
        ignore_background: bool = False,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; it must be above 0")
        self.temperature, self.normalise = temperature, normalise
        self.one_positive, self.by_pixels = one_positive, by_pixels
        self.ignore_background = ignore_background

    def forward(self, visual: Tensor, counts: Tensor, text: Tensor, identity: Tensor) -> Tensor:
        """visual N,P,D or N,P,K,D; counts N,P or N,P,K: cells behind each row, 0 = not there;
        text U,P,D of the batch's identities; identity int64 N in 0..U-1. Scalar float32; 0 with a
        zero gradient when nothing is there.
        """
        images, parts, dim = visual.shape[0], visual.shape[1], visual.shape[-1]
        if visual.shape[:-1] != counts.shape or text.shape[1:] != (parts, dim):
            raise ValueError(
                f"visual {tuple(visual.shape)}, counts {tuple(counts.shape)}, "
                f"text {tuple(text.shape)}; expected N,P,[K,]D, N,P[,K] and U,P,D"
            )
        counts = counts.reshape(images, parts, -1).to(full(visual).dtype)
        if self.ignore_background:
            counts = torch.cat([torch.zeros_like(counts[:, :1]), counts[:, 1:]], dim=1)
        part = torch.arange(parts, device=visual.device)
        own = (identity[:, None] * parts + part)[..., None].expand(counts.shape)  # N,P,K
        with torch.autocast(visual.device.type, enabled=False):
            rows, texts = full(visual).reshape(-1, dim), full(text).reshape(-1, dim)
            if self.normalise:
                rows, texts = F.normalize(rows, dim=1), F.normalize(texts, dim=1)
            scores = rows @ texts.T / self.temperature  # R,U*P
            return self._both_ways(scores, counts.flatten(), own.flatten())

    def _both_ways(self, scores: Tensor, counts: Tensor, own: Tensor) -> Tensor:
        """scores R,A of rows and texts; counts R; own int64 R, the text of each row."""
        weight = counts if self.by_pixels else (counts > 0).to(counts.dtype)
        share = torch.zeros_like(scores[0]).index_add(0, own, weight)  # A
        matching = scores.gather(1, own[:, None])[:, 0]  # R
        to_text = scores.masked_fill(share == 0, _NEVER).logsumexp(1) - matching

        weighted = scores + weight.clamp(min=_LEAST_NORM).log()[:, None]
        weighted = weighted.masked_fill(weight[:, None] == 0, _NEVER)
        if self.one_positive:
            positive = own[:, None] == torch.arange(len(share), device=own.device)
            negatives = weighted.masked_fill(positive, _NEVER).logsumexp(0)  # A
            to_image = torch.logaddexp(matching, negatives[own]) - matching
        else:
            to_image = weighted.logsumexp(0)[own] - matching
        # A text as anchor weighs what its rows weigh together, or 1; its rows share that.
        anchors = weight if self.by_pixels else weight / share[own].clamp(min=1)
        return _mean(to_text, weight) + _mean(to_image, anchors)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum()
    return torch.where(weights > 0, values * weights, 0).sum() / torch.where(total > 0, total, 1)


def confidence_weights(cells: Cells, temperature: float = 1.0) -> Tensor:
    """Soft-max over the counted cells of each image of confidence / temperature, float32 N,h,w
    (v2 eq. 8). Rows sum to 1 over the counted cells, 0 elsewhere and where none is counted.

    Confidences lie in 0..1: at temperature 1 the largest ratio of two weights is e.
    """
    counted = cells.counted.flatten(1)
    logits = (full(cells.confidence) / temperature).flatten(1).masked_fill(~counted, _NEVER)
    return (logits.softmax(1) * counted).view_as(cells.confidence)


class PartAlignment(nn.Module):
    """Squared distance of each cell of a dense map to the text of its part (v1 eq. 11, v2 eq. 8).

    The map of texts is never built: |v|^2 - 2 v.t + |t|^2 needs only P products per cell (the map
    would take 134 MB for 64 images at 32x16x1024). Texts are detached: a text side that trains
    could shrink to make the loss small. Ignored cells (from outside the image, erased) take no
    part. Mean over the images that have a counted cell. In float32 whatever autocast says.

    [choice] ``normalise``: both sides have length 1, so a squared distance lies in 0..4; raw CLIP
    texts have norms near 10 and would drown the other losses. ``reduction`` over channels: "sum"
    (the norm of v2 eq. 8) or "mean" (the M of MSE). ``ignore_background`` leaves label 0 out.
    ``confidence``: cells weigh by ``confidence_weights`` at ``temperature`` (v2 eq. 8) instead of
    alike (v1 eq. 11).
    """

    takes: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        normalise: bool = True,
        reduction: str = "sum",
        ignore_background: bool = False,
        confidence: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction is {reduction!r}; it must be one of ['mean', 'sum']")
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; it must be above 0")
        self.normalise, self.reduction = normalise, reduction
        self.ignore_background = ignore_background
        self.confidence, self.temperature = confidence, temperature

    def forward(self, fused: Tensor, cells: Cells, text: Tensor) -> Tensor:
        """fused N,D,h,w; cells N,h,w; text N,P,D, the rows of each image's identity, or P,D, the
        same for all (prompts without identity). Scalar float32; 0 with a zero gradient when every
        cell is ignored.
        """
        if (
            fused.ndim != 4
            or fused[:, 0].shape != cells.labels.shape
            or text.shape[-1] != fused.shape[1]
            or (text.ndim == 3 and len(text) != len(fused))
        ):
            raise ValueError(
                f"fused {tuple(fused.shape)}, cells {tuple(cells.labels.shape)}, "
                f"text {tuple(text.shape)}; expected N,D,h,w, N,h,w and N,P,D or P,D"
            )
        if self.ignore_background:
            ignored = torch.where(cells.labels == 0, IGNORE, cells.labels)
            cells = Cells(ignored, cells.confidence)
        counted = cells.counted.flatten(1)  # N,T
        if self.confidence:
            weights = confidence_weights(cells, self.temperature).flatten(1)
        else:
            each = counted.to(full(fused).dtype)
            weights = each / each.sum(1, keepdim=True).clamp(min=1)
        with torch.autocast(fused.device.type, enabled=False):
            distances = self._distances(full(fused).flatten(2), cells.labels, full(text))
        if self.reduction == "mean":
            distances = distances / fused.shape[1]
        images = counted.any(1).sum().clamp(min=1)
        return torch.where(counted, distances * weights, 0).sum() / images

    def _distances(self, fused: Tensor, labels: Tensor, text: Tensor) -> Tensor:
        """fused N,D,T, labels N,h,w, text [N,]P,D -> squared distances N,T; anything if ignored."""
        text = text.detach().expand(len(fused), -1, -1)
        part = labels.flatten(1).masked_fill(labels.flatten(1) == IGNORE, 0)
        dots = (text @ fused).gather(1, part[:, None])[:, 0]  # N,T
        visual_square, text_square = fused.square().sum(1), text.square().sum(2)
        text_square = text_square.gather(1, part)
        if not self.normalise:
            return visual_square - 2 * dots + text_square
        norms = (visual_square * text_square).clamp(min=_LEAST_NORM**4).sqrt()
        return 2 - 2 * dots / norms
