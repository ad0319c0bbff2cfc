"""The published CLIP that steps of ``classify`` load, had before any of them is executed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.artifacts.steps import Step
from reid_train.models.bringing import bring as bring_clip

# Without a CLIP there is nothing to compare images and words with.
INSTEAD = "--pretrained clip-tiny-vit"


def bring(steps: Sequence[Step], folder: Path) -> None:
    """``bring_named`` for the CLIPs of ``steps``."""
    bring_named([step.params["pretrained"] for step in steps], folder)


def bring_named(names: Iterable[str], folder: Path) -> None:
    """Have the CLIPs ``names`` (``openai``, ``open_clip:ARCH/TAG``; a file is there) in ``folder``
    or where their library keeps them. Raises ReidpipeError when one cannot be had.
    """
    for name in dict.fromkeys(names):
        bring_clip(name, "ViT-B-16", folder, instead=INSTEAD)
