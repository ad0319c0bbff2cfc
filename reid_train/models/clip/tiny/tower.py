"""clip-tiny and clip-tiny-vit as CLIPs that are compared with class names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from reid_train.engine.checkpoint import load_strict
from reid_train.models.clip.package import VisionTransformer
from reid_train.models.clip.text import ClipText
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.models.clip.visual import ClipResNet, ClipVit, load_tower

_NETWORKS = {"resnet": ClipResNet, "vit": ClipVit}


class TinyTower(nn.Module):
    """clip-tiny's ResNet behind the interface of a CLIP image tower: normalised images N,3,128,64
    -> N,D, the image in the image-text space. It has no blocks that vectors could enter.
    """

    def __init__(self, tower: ClipResNet) -> None:
        super().__init__()
        self.tower = tower
        self.image_size = clip_tiny.INPUT
        self.output_dim: int = clip_tiny.VISUAL["output_dim"]

    def forward(self, x: Tensor) -> Tensor:
        return self.tower.tokens(x).projected[:, 0]


def image_network(tower: str) -> ClipResNet | ClipVit:
    """The untrained image tower ``resnet`` or ``vit``, by torch's generator."""
    return _NETWORKS[tower](input_size=clip_tiny.INPUT, **clip_tiny.TOWERS[tower].sizes)


def image_rows(tower: ClipResNet | ClipVit, images: Tensor) -> Tensor:
    """uint8 N,3,H,W RGB -> rows in the image-text space N,D, not normalised."""
    inputs = (images.float() / 255 - clip_tiny.MEAN) / clip_tiny.STD
    return tower.tokens(inputs).projected[:, 0]


def tiny_tower(state: Mapping[str, Tensor]) -> str | None:
    """Which of clip-tiny's image towers a state dict in OpenAI's layout has, by its shapes."""
    found = {key: tuple(value.shape) for key, value in state.items()}
    for name, tower in clip_tiny.TOWERS.items():
        if all(found.get(f"visual.{key}") == shape for key, shape in tower.shapes.items()):
            return name
    return None


def tiny_towers(
    tower: str, state: Mapping[str, Tensor], source: str
) -> tuple[TinyTower | VisionTransformer, ClipText]:
    """Image and text tower with the weights of a file whose image tower is ``tower``, all tokens
    present.

    Raises ReidpipeError for what does not fit by name or shape.
    """
    image, text = image_network(tower), ClipText(**clip_tiny.TEXT)
    visual = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    others = ("visual.", "logit_scale")
    words = {key: value for key, value in state.items() if not key.startswith(others)}
    # The file's grid of positions is a square, as in OpenAI's files.
    positions = clip_tiny.TOWERS[tower].positions
    load_tower(image.image_encoder, visual, positions, image.grid, source)
    load_strict(text, words, source=f"{source} (text tower)")
    return TinyTower(image) if isinstance(image, ClipResNet) else image.image_encoder, text
