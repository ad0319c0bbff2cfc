"""Weights that open_clip lists, as ``open_clip:ARCH/TAG``: read through its own loader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.engine.checkpoint import read_state_dict
from reid_train.models.clip.architectures import image_sizes, quick_gelu, text_sizes
from reid_train.models.clip.package import (
    QuickGELU,
    download_pretrained,
    get_pretrained_cfg,
    list_pretrained,
    list_pretrained_tags_by_model,
)

PREFIX = "open_clip:"
ACTIVATIONS: dict[str, type[nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class Tag(NamedTuple):
    """Weights that were published for an architecture. ``quick_gelu``: whether they were trained
    with CLIP's first approximation of GELU, whatever the architecture's own configuration says.
    mean, std: of the images they have seen, RGB in 0..1.
    """

    architecture: str
    name: str
    quick_gelu: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def text(self) -> str:
        """As it is typed."""
        return f"{PREFIX}{self.architecture}/{self.name}"


def find_tag(pretrained: str) -> Tag:
    """What ``open_clip:ARCH/TAG`` names; nothing is downloaded. Raises ReidpipeError, naming the
    nearest, for an architecture or tag that open_clip does not list.
    """
    architecture, _, name = pretrained.removeprefix(PREFIX).partition("/")
    listed = list(dict.fromkeys(pair[0] for pair in list_pretrained()))
    if architecture not in listed:
        raise ReidpipeError(
            f"found {pretrained}, an architecture that open_clip has no weights of"
            f"{nearest(architecture, listed)}; expected open_clip:ARCH/TAG, one of its "
            f"{len(listed)}; type --pretrained open_clip:ViT-B-16/laion2b_s34b_b88k"
        )
    found = get_pretrained_cfg(architecture, name)
    if not found:
        tags = list_pretrained_tags_by_model(architecture)
        raise ReidpipeError(
            f"found {pretrained}, a tag that open_clip does not list{nearest(name, tags)}; "
            f"expected one of {', '.join(tags)}; type --pretrained {PREFIX}{architecture}/{tags[0]}"
        )
    quick = bool(found.get("quick_gelu")) or quick_gelu(architecture)
    return Tag(architecture, name, quick, tuple(found["mean"]), tuple(found["std"]))


def tag_of(pretrained: str | Path) -> Tag | None:
    """The tag that ``pretrained`` names, None for anything else that weights can come from."""
    text = str(pretrained)
    return find_tag(text) if text.startswith(PREFIX) else None


def usual_activation(architecture: str, pretrained: str | Path) -> str:
    """The activation that weights were trained with: the tag's; of other files and of fresh weights
    that of OpenAI's CLIPs where OpenAI published the architecture, else the architecture's own.
    """
    tag = tag_of(pretrained)
    if tag is not None:
        quick = tag.quick_gelu
    else:
        quick = bool(get_pretrained_cfg(architecture, "openai")) or quick_gelu(architecture)
    return "quick_gelu" if quick else "gelu"


def activation_layer(activation: str) -> type[nn.Module]:
    """The module of an activation by name. Raises ReidpipeError for an unknown one."""
    if activation not in ACTIVATIONS:
        raise ReidpipeError(
            f"found activation '{activation}'{nearest(activation, ACTIVATIONS)}; expected one of "
            f"{', '.join(ACTIVATIONS)}; type --set model.options.activation=gelu"
        )
    return ACTIVATIONS[activation]


def check_sizes(tag: Tag, own: Mapping[str, Any], tower: str) -> None:
    """Raise ReidpipeError unless the ``image`` or ``text`` tower of a tag has the sizes ``own``,
    saying which options to set; before anything is downloaded.
    """
    theirs = (image_sizes if tower == "image" else text_sizes)(tag.architecture)
    place = "model.options" if tower == "image" else "model.text"
    set_it = f"--set {place}.architecture={tag.architecture}"
    if set(theirs) != set(own):
        trunk = "clip-vit-b16" if "patch" in theirs else "clip-rn50"
        raise ReidpipeError(
            f"found {tag.text}, {'a ViT' if 'patch' in theirs else 'a ResNet'}, for a trunk of the "
            f"other kind; expected trunk {trunk}; type --set model.trunk={trunk} {set_it}"
        )
    others = [name for name in own if own[name] != theirs[name]]
    if others:
        found = ", ".join(f"{name} {theirs[name]}" for name in others)
        wanted = ", ".join(f"{name} {own[name]}" for name in others)
        raise ReidpipeError(
            f"found {tag.text}, whose {tower} tower has {found}; expected {wanted}; type {set_it}"
        )


def read_tag(pretrained: str) -> dict[str, Tensor]:
    """The state dict of ``open_clip:ARCH/TAG``, float32, on the CPU, in OpenAI's layout (open_clip
    kept its names), from open_clip's own caches or downloaded into them. Raises ReidpipeError when
    it cannot be had.
    """
    tag = find_tag(pretrained)
    state = read_state_dict(fetched(tag))
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def fetched(tag: Tag, *, instead: str = "--pretrained none") -> Path:
    """The file of a tag, by open_clip's own loader. instead: what to type to do without it."""
    known = get_pretrained_cfg(tag.architecture, tag.name)
    place = known.get("url") or "open_clip"
    if known.get("hf_hub"):
        place = f"huggingface.co/{known['hf_hub'].rstrip('/')}"
    try:
        return Path(download_pretrained(known))
    except Exception as error:  # urllib, huggingface_hub and open_clip each raise their own
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = reason if len(reason) <= 200 else reason[:197] + "..."
        raise ReidpipeError(
            f"found no weights {tag.text} at {place} or in its cache ({reason}); expected to "
            f"download them there; type --pretrained FILE, or {instead}"
        ) from error
