"""clip-tiny as a CLIP that is compared with class names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from reid_train.checkpoint import load_strict
from reid_train.models import clip_tiny
from reid_train.models.clip_text import ClipText
from reid_train.models.clip_visual import ClipResNet

_POSITIONS = "visual.attnpool.positional_embedding"


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
    height, width = clip_tiny.INPUT
    places = 1 + height * width // 16**2
    shape = (places, 32 * clip_tiny.VISUAL["width"])
    return _POSITIONS in state and tuple(state[_POSITIONS].shape) == shape


def tiny_towers(state: Mapping[str, Tensor], source: str) -> tuple[TinyTower, ClipText]:
    """Image and text tower with the weights of a file of clip-tiny, all tokens present.

    Raises ReidpipeError for what does not fit by name or shape.
    """
    image, text = TinyTower(), ClipText(**clip_tiny.TEXT)
    visual = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    others = ("visual.", "logit_scale")
    words = {key: value for key, value in state.items() if not key.startswith(others)}
    load_strict(image.tower.image_encoder, visual, source=f"{source} under 'visual.'")
    load_strict(text, words, source=f"{source} (text tower)")
    return image, text
