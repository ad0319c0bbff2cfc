"""The text side of a recipe: a tower with prompts of identities before it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.recipe import schema

if TYPE_CHECKING:
    from reid_train.models.prompts import IdentityTexts


def tower_sizes(spec: schema.Text) -> dict[str, Any]:
    """Options of ``ClipText``: ``output_dim`` numbers in a row, D. Raises ReidpipeError for an
    architecture that open_clip does not have or whose text tower is not CLIP's.
    """
    from reid_train.models.clip.architectures import text_sizes

    sizes: dict[str, Any] = {"architecture": "RN50", **clip_tiny.TEXT}
    if spec.architecture != clip_tiny.NAME:
        sizes = {"architecture": spec.architecture, **text_sizes(spec.architecture)}
    return {**sizes, **spec.options}


def build_texts(
    spec: schema.Text, *, classes: int, pretrained: str, weights: Path | None = None
) -> IdentityTexts:
    """Prompts of ``classes`` identities before CLIP's text tower, drawn from torch's generator.

    ``pretrained`` as for ``build_task``; prompts before a tower of random weights mean nothing, so
    "none" serves tests alone. Raises ReidpipeError as ``tower_sizes``.
    """
    from reid_train.models.clip.text import ClipText
    from reid_train.models.prompts import IdentityPrompts, IdentityTexts

    tower = ClipText(**tower_sizes(spec), pretrained=pretrained, weights=weights)
    prompts = IdentityPrompts(tower, classes, subject=spec.noun, tokens=spec.tokens)
    return IdentityTexts(tower, prompts)
