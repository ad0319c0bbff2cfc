"""The text side of a recipe: a tower with prompts of identities before it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.recipe import schema

if TYPE_CHECKING:
    from reid_train.models.prompts import IdentityTexts

# Sizes of CLIP's text towers, and of the one that ships with the package.
TEXT_TOWERS: dict[str, dict[str, Any]] = {
    "ViT-B-16": {"architecture": "ViT-B-16"},
    "RN50": {"architecture": "RN50", "output_dim": 1024},
    "clip-tiny": {"architecture": "RN50", **clip_tiny.TEXT},
}


def text_dim(spec: schema.Text) -> int:
    """Numbers in a text row, D."""
    return {"output_dim": 512, **TEXT_TOWERS[spec.architecture], **spec.options}["output_dim"]


def build_texts(
    spec: schema.Text, *, classes: int, pretrained: str, weights: Path | None = None
) -> IdentityTexts:
    """Prompts of ``classes`` identities before CLIP's text tower, drawn from torch's generator.

    ``pretrained`` as for ``build_task``; prompts before a tower of random weights mean nothing, so
    "none" serves tests alone.
    """
    from reid_train.models.clip.text import ClipText
    from reid_train.models.prompts import IdentityPrompts, IdentityTexts

    sizes = {**TEXT_TOWERS[spec.architecture], **spec.options}
    tower = ClipText(**sizes, pretrained=pretrained, weights=weights)
    prompts = IdentityPrompts(tower, classes, subject=spec.noun, tokens=spec.tokens)
    return IdentityTexts(tower, prompts)
