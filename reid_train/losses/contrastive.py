"""Supervised contrast between images and texts (CLIP-ReID, stage 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_train.engine.arithmetic import full

DIRECTIONS = ("both", "image-to-text", "text-to-image")


def supervised_contrast(
    anchors: Tensor,
    candidates: Tensor,
    anchor_labels: Tensor,
    candidate_labels: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """Contrast of anchors N,D with candidates M,D in one direction (Khosla et al. 2020, L_out, with
    candidates that are not the anchors): the mean over anchors of the mean over their positives of
    -log softmax over all candidates, positives included. Labels int64 N and M; scalar, float32 or
    better whatever autocast says.

    An anchor without a positive among the candidates adds 0 and still counts in the mean; the
    official CLIP-ReID code divides 0 by 0 there.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        scores = full(anchors) @ full(candidates).T / temperature  # N,M
        chances = F.log_softmax(scores, dim=1)  # subtracts each row's maximum itself
    positive = anchor_labels[:, None] == candidate_labels[None, :]
    matched = chances.masked_fill(~positive, 0).sum(1)
    return -(matched / positive.sum(1).clamp(min=1)).mean()


class SupCon(nn.Module):
    """CLIP-ReID's stage-1 loss (Li et al., AAAI 2023): L_i2t + L_t2i, raw dot products
    at temperature 1.

    ``direction``: ``both`` (the sum), ``image-to-text`` (images are the anchors) or
    ``text-to-image``. ``normalise``: cosines instead of dot products; choose a temperature then.
    Deviation: float32 whatever autocast says; the official code exponentiates half-precision dot
    products of vectors that are not normalised.
    """

    def __init__(
        self, *, temperature: float = 1.0, normalise: bool = False, direction: str = "both"
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; it must be above 0")
        if direction not in DIRECTIONS:
            raise ValueError(
                f"direction is {direction!r}; it must be one of {', '.join(DIRECTIONS)}"
            )
        self.temperature, self.normalise, self.direction = temperature, normalise, direction

    def forward(
        self, image: Tensor, text: Tensor, labels: Tensor, text_labels: Tensor | None = None
    ) -> Tensor:
        """image N,D, text M,D, labels int64 N, text_labels int64 M -> scalar. Without
        ``text_labels`` the texts are those of the images, row by row (M = N), duplicates included.
        """
        if text_labels is None:
            text_labels = labels
        image, text = full(image), full(text)
        if self.normalise:
            image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
        loss = image.new_zeros(())
        if self.direction != "text-to-image":
            loss = loss + supervised_contrast(image, text, labels, text_labels, self.temperature)
        if self.direction != "image-to-text":
            loss = loss + supervised_contrast(text, image, text_labels, labels, self.temperature)
        return loss
