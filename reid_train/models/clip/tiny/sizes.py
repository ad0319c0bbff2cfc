"""``clip-tiny`` and ``clip-tiny-vit``, the small image-text models that ship with this package:
sizes, input, files.

``reid_train.weights.pretraining`` trains them; beside each file lies what its training and scores
were.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "clip-tiny"
_WEIGHTS = Path(__file__).resolve().parents[3] / "weights"
FILES = {name: _WEIGHTS / f"{name}.safetensors" for name in (NAME, "clip-tiny-vit")}

# CLIP's ResNet at a quarter of its width with one block per stage; 128x64 gives an 8x4 grid.
VISUAL: dict[str, Any] = {"layers": (1, 1, 1, 1), "width": 16, "heads": 8, "output_dim": 128}
# A ViT whose patches are small, as parts of people are at this size: a 16x8 grid.
VIT: dict[str, Any] = {
    "patch": 8,
    "stride": 8,
    "width": 128,
    "layers": 4,
    "heads": 2,
    "output_dim": 128,
}
TEXT: dict[str, Any] = {"width": 128, "layers": 3, "heads": 4, "output_dim": 128}
INPUT = (128, 64)  # height and width
MEAN = STD = 0.5


@dataclass(frozen=True)
class Tower:
    """One of the image towers. Entries have their names in OpenAI's files, without ``visual.``.

    model: whose it is. sizes: of ``ClipResNet`` or ``ClipVit``. positions: a square grid in the
    file. centred: the last layer with a scale and a shift. scaled: what is multiplied to
    multiply the features. shapes: in the file, no other CLIP has all of them.
    """

    model: str
    sizes: dict[str, Any]
    positions: str
    centred: str
    scaled: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]


TOWERS = {
    "resnet": Tower(
        model=NAME,
        sizes=VISUAL,
        positions="attnpool.positional_embedding",
        centred="attnpool.c_proj",
        scaled=("attnpool.c_proj.weight", "attnpool.c_proj.bias"),
        shapes={
            "conv1.weight": (VISUAL["width"] // 2, 3, 3, 3),
            "attnpool.c_proj.weight": (VISUAL["output_dim"], 32 * VISUAL["width"]),
        },
    ),
    "vit": Tower(
        model="clip-tiny-vit",
        sizes=VIT,
        positions="positional_embedding",
        centred="ln_post",
        scaled=("proj",),
        shapes={
            "conv1.weight": (VIT["width"], 3, VIT["patch"], VIT["patch"]),
            "positional_embedding": (1 + (INPUT[0] // VIT["patch"]) ** 2, VIT["width"]),
            "proj": (VIT["width"], VIT["output_dim"]),
        },
    ),
}
