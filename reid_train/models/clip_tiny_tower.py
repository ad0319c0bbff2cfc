"""clip-tiny as a CLIP that is compared with class names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from reid_train.checkpoint import load_strict
from reid_train.models import clip_tiny
from reid_train.models.clip_text import ClipText
from reid_train.models.clip_visual import ClipResNet, _load_tower

_STEM, _PROJECTION = "visual.conv1.weight", "visual.attnpool.c_proj.weight"
_POSITIONS = "attnpool.positional_embedding"


class TinyTower(nn.Module):
    """clip-tiny's ResNet behind the interface of a CLIP image tower: normalised images N,3,128,64
    -> N,D, the image in the image-text space. It has no blocks that vectors could enter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tower = ClipResNet(input_size=clip_tiny.INPUT, **clip_tiny.VISUAL)
        self.image_size = clip_tiny.INPUT
        self.output_dim: int = clip_tiny.VISUAL["output_dim"]

    def forward(self, x: Tensor) -> Tensor:
        return self.tower.tokens(x).projected[:, 0]


def is_clip_tiny(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict in OpenAI's layout has clip-tiny's image tower, by its shapes."""
    width, dim = clip_tiny.VISUAL["width"], clip_tiny.VISUAL["output_dim"]
    shapes = {_STEM: (width // 2, 3, 3, 3), _PROJECTION: (dim, 32 * width)}
    return all(key in state and tuple(state[key].shape) == s for key, s in shapes.items())


def tiny_towers(state: Mapping[str, Tensor], source: str) -> tuple[TinyTower, ClipText]:
    """Image and text tower with the weights of a file of clip-tiny, all tokens present.

    Raises ReidpipeError for what does not fit by name or shape.
    """
    image, text = TinyTower(), ClipText(**clip_tiny.TEXT)
    visual = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    others = ("visual.", "logit_scale")
    words = {key: value for key, value in state.items() if not key.startswith(others)}
    # The file's grid of positions is a square, as in OpenAI's files.
    _load_tower(image.tower.image_encoder, visual, _POSITIONS, image.tower.grid, source)
    load_strict(text, words, source=f"{source} (text tower)")
    return image, text
