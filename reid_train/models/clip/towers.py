"""A whole CLIP, image and text tower, from a file or state dict in OpenAI's layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_strict, shape_of, unwrap
from reid_train.models.clip.architectures import image_sizes, text_sizes
from reid_train.models.clip.package import (
    OPENAI_DATASET_MEAN,
    OPENAI_DATASET_STD,
    VisionTransformer,
)
from reid_train.models.clip.tags import Tag, activation_layer
from reid_train.models.clip.text import ClipText
from reid_train.models.clip.tiny import sizes as clip_tiny
from reid_train.models.clip.tiny.tower import tiny_tower, tiny_towers
from reid_train.models.pretrained import DESCRIPTIONS, read_clip

# entries whose shapes give the towers' sizes, with their number of dimensions
_SHAPES = {
    "visual.conv1.weight": 4,
    "visual.class_embedding": 1,
    "visual.positional_embedding": 2,
    "visual.proj": 2,
    "positional_embedding": 2,
    "token_embedding.weight": 2,
    "text_projection": 2,
}
_HEAD = 64  # width of an attention head in all of OpenAI's CLIPs
_VOCABULARY = 49408


class Towers(NamedTuple):
    """CLIP: image tower, text tower, the logarithm of the logits' scale (a scalar), and mean and
    std of its images, RGB in 0..1.
    """

    image: Any  # VisionTransformer, or TinyTower, which has no blocks
    text: ClipText
    logit_scale: Tensor
    mean: tuple[float, ...] = OPENAI_DATASET_MEAN
    std: tuple[float, ...] = OPENAI_DATASET_STD


def clip_state(clip: str | Path | Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """A CLIP's state dict in float32, and what to call it in messages. ``clip`` is "openai",
    "open_clip:ARCH/TAG", "clip-tiny", "clip-tiny-vit", a file or a state dict.
    """
    if isinstance(clip, str) and clip in clip_tiny.FILES:
        clip = clip_tiny.FILES[clip]
    if not isinstance(clip, Mapping):
        return read_clip(clip, "ViT-B-16"), str(clip)
    state = {key: value for key, value in unwrap(clip).items() if key not in DESCRIPTIONS}
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, "the state"


def published_clip(name: str, weights: Path) -> str | dict[str, Tensor]:
    """What ``clip_state`` takes of published weights: "open_clip:ARCH/TAG" itself, as its name says
    more than its weights, and of "openai" the ViT-B/16, kept in the folder ``weights``.
    """
    return name if name != "openai" else read_clip(name, "ViT-B-16", weights=weights)


def clip_towers(
    state: Mapping[str, Tensor],
    source: str,
    *,
    image_heads: int | None = None,
    text_heads: int | None = None,
    tag: Tag | None = None,
) -> Towers:
    """Both towers with these weights. Every size is read off the shapes (input side = grid of
    positions times patch) but the attention heads, which no shape tells: width / 64 when None.
    clip-tiny and clip-tiny-vit, which have other heads and images, are known by their shapes.
    ``tag``: whose weights these are, of open_clip, which says heads, activation, mean and std.

    Raises ReidpipeError when a tower is missing, is no ViT, or does not fit by name or shape.
    """
    tiny = tiny_tower(state)
    if tiny is not None and "logit_scale" in state:
        scale = state["logit_scale"].detach().clone().reshape(())
        values = (clip_tiny.MEAN,) * 3, (clip_tiny.STD,) * 3
        return Towers(*tiny_towers(tiny, state, source), scale, *values)
    for key, dims in _SHAPES.items():
        if key not in state or state[key].ndim != dims:
            found = f"'{key}' with {state[key].ndim} dimensions" if key in state else f"no '{key}'"
            raise ReidpipeError(
                f"found {found} in {source}; expected a CLIP with a ViT in OpenAI's layout, text "
                "tower included; give ViT-B-16.pt"
            )
    if "logit_scale" not in state or state["logit_scale"].numel() != 1:
        raise ReidpipeError(
            f"found no scalar 'logit_scale' in {source}; expected a CLIP in OpenAI's layout; "
            "give ViT-B-16.pt"
        )
    visual = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    others = ("visual.", "logit_scale")
    text = {key: value for key, value in state.items() if not key.startswith(others)}
    activation, ratio, colours = "quick_gelu", 4.0, ()
    if tag is not None:
        sizes = image_sizes(tag.architecture)
        image_heads = image_heads or sizes["heads"]
        text_heads = text_heads or text_sizes(tag.architecture)["heads"]
        activation, ratio = "quick_gelu" if tag.quick_gelu else "gelu", sizes["mlp_ratio"]
        colours = tag.mean, tag.std
    towers = Towers(
        _image_tower(visual, source, image_heads, activation, ratio),
        _text_tower(text, source, text_heads, activation),
        state["logit_scale"].detach().clone().reshape(()),
        *colours,
    )
    load_strict(towers.image, visual, source=f"{source} under 'visual.'")
    load_strict(towers.text, text, source=f"{source} (text tower)")
    return towers


def _image_tower(
    state: Mapping[str, Tensor], source: str, heads: int | None, activation: str, ratio: float
) -> VisionTransformer:
    width, _, _, patch = shape_of(state, "conv1.weight", source, 4)
    places = shape_of(state, "positional_embedding", source, 2)[0] - 1
    side = round(max(places, 0) ** 0.5)
    if side * side != places or not places:
        raise ReidpipeError(
            f"found {places + 1} positions in {source}; expected a square grid and the class "
            "token; give CLIP's own file, not one of a re-identification method"
        )
    return VisionTransformer(
        image_size=side * patch,
        patch_size=patch,
        width=width,
        layers=_blocks(state),
        heads=_heads(width, heads, source),
        mlp_ratio=ratio,
        output_dim=shape_of(state, "proj", source, 2)[1],
        act_layer=activation_layer(activation),
    )


def _text_tower(
    state: Mapping[str, Tensor], source: str, heads: int | None, activation: str
) -> ClipText:
    vocabulary, width = shape_of(state, "token_embedding.weight", source, 2)
    if vocabulary != _VOCABULARY:
        raise ReidpipeError(
            f"found a vocabulary of {vocabulary} tokens in {source}; expected CLIP's "
            f"{_VOCABULARY}; give a CLIP with its own tokens"
        )
    return ClipText(
        width=width,
        layers=_blocks(state),
        heads=_heads(width, heads, source),
        output_dim=shape_of(state, "text_projection", source, 2)[1],
        context=shape_of(state, "positional_embedding", source, 2)[0],
        vocabulary=vocabulary,
        activation=activation,
    )


def _blocks(state: Mapping[str, Tensor]) -> int:
    start = "transformer.resblocks."
    return len({key[len(start) :].split(".")[0] for key in state if key.startswith(start)})


def _heads(width: int, heads: int | None, source: str) -> int:
    count = max(1, width // _HEAD) if heads is None else heads
    if count < 1 or width % count:
        raise ReidpipeError(
            f"found {count} attention heads for width {width} in {source}; expected a divisor of "
            "the width; give image_heads and text_heads"
        )
    return count
