"""``clip-tiny``, the small image-text model that ships with this package: sizes, input, file.

``reid_train.pretraining`` trains it; beside the file lies what its training and scores were.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from reid_train.models.clip_visual import ClipResNet

NAME = "clip-tiny"
FILE = Path(__file__).resolve().parent.parent / "weights" / "clip-tiny.safetensors"

# CLIP's ResNet at a quarter of its width with one block per stage; 128x64 gives an 8x4 grid.
VISUAL: dict[str, Any] = {"layers": (1, 1, 1, 1), "width": 16, "heads": 8, "output_dim": 128}
TEXT: dict[str, Any] = {"width": 128, "layers": 3, "heads": 4, "output_dim": 128}
INPUT = (128, 64)  # height and width
MEAN = STD = 0.5


def image_rows(tower: ClipResNet, images: Tensor) -> Tensor:
    """uint8 N,3,H,W RGB -> rows in the image-text space N,D, not normalised."""
    return tower.tokens((images.float() / 255 - MEAN) / STD).projected[:, 0]
