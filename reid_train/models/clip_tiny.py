"""Sizes of ``clip-tiny``, the small image-text model that ships with this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAME = "clip-tiny"
FILE = Path(__file__).resolve().parent.parent / "weights" / "clip-tiny.safetensors"

# CLIP's ResNet at a quarter of its width with one block per stage; 128x64 gives an 8x4 grid.
VISUAL: dict[str, Any] = {"layers": (1, 1, 1, 1), "width": 16, "heads": 8, "output_dim": 128}
TEXT: dict[str, Any] = {"width": 128, "layers": 3, "heads": 4, "output_dim": 128}
