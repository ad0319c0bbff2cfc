"""Sentences into the space where CLIP's image and text features meet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from reid_train.models.prompts import tokenise
from reid_train.recipe import schema
from reid_train.recipe.texts import build_texts


def encode_sentences(
    spec: schema.Text,
    sentences: Sequence[str],
    *,
    pretrained: str,
    weights: Path | None = None,
) -> np.ndarray:
    """Sentences -> float32 (N, D) by the frozen text tower of ``spec``, not normalised.

    pretrained: "openai", "open_clip:ARCH/TAG" or a CLIP file; weights: folder of downloads. Raises
    ReidpipeError for a sentence that does not fit CLIP's 77 tokens.
    """
    tower = build_texts(spec, classes=1, pretrained=pretrained, weights=weights).text_encoder.eval()
    with torch.no_grad():
        return tower.encode_tokens(tokenise(sentences, context=tower.context_length)).numpy()
