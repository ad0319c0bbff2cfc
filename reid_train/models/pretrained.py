"""CLIP checkpoints: where they are, which bytes OpenAI's must have, how they are opened."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pipeline.artifacts.atomic import sha256_file
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import read_state_dict
from reid_train.models.clip.package import get_pretrained_url
from reid_train.models.clip.tags import read_tag, tag_of
from reid_train.models.published_file import published_file
from reid_train.models.token_rows import expand

# entries of OpenAI's archives that describe the network and are no weights
DESCRIPTIONS = ("input_resolution", "context_length", "vocab_size")
_TEXT = (
    "token_embedding.",
    "positional_embedding",
    "transformer.",
    "ln_final.",
    "text_projection",
)


def published(architecture: str) -> tuple[str, str]:
    """Address and sha256 of OpenAI's file for "ViT-B-16", "RN50" and others, as open_clip lists
    them; both empty for an architecture that OpenAI did not publish.
    """
    url = get_pretrained_url(f"{architecture.removesuffix('-quickgelu')}-quickgelu", "openai")
    return url, url.split("/")[-2] if url else ""


def read_clip(
    source: str | Path, architecture: str, *, weights: Path | None = None
) -> dict[str, Tensor]:
    """A whole CLIP state dict in OpenAI's layout, float32, on the CPU.

    ``source`` is "openai" (looked for in ``weights``, ``$REIDPIPE_WEIGHTS`` and open_clip's own
    cache, downloaded into ``weights`` when absent), "open_clip:ARCH/TAG" (through open_clip's own
    loader) or a file: OpenAI's own TorchScript archive or any state dict with the same keys, or
    with trained token embeddings alone (``token_rows.expand`` adds the others).
    TorchScript executes code on loading, so an archive is opened only when its sha256 is the
    published one; every other file is read as tensors alone.
    """
    if tag_of(source) is not None:
        return read_tag(str(source))
    path = openai_file(architecture, weights) if source == "openai" else Path(source)
    if not path.is_file():
        raise ReidpipeError(
            f"found no file {path}; expected CLIP weights; type --pretrained openai, none or a path"
        )
    if source == "openai" or sha256_file(path) == published(architecture)[1]:
        state = torch.jit.load(str(path), map_location="cpu").state_dict()
    else:
        state = expand(read_state_dict(path))
    return {
        key: value.float() if value.is_floating_point() else value
        for key, value in state.items()
        if key not in DESCRIPTIONS
    }


def openai_file(
    architecture: str, weights: Path | None, *, instead: str = "--pretrained none"
) -> Path:
    """Where OpenAI's file for an architecture is, downloaded into ``weights`` when it is nowhere.

    Raises ReidpipeError for an architecture that OpenAI did not publish, and as ``published_file``.
    """
    url, digest = published(architecture)
    if not url:
        raise ReidpipeError(
            f"found pretrained openai for architecture '{architecture}', which OpenAI did not "
            "publish; expected open_clip:ARCH/TAG, a file or none; type --pretrained "
            f"open_clip:{architecture}/TAG"
        )
    return published_file(
        url,
        digest,
        weights,
        cache=Path.home() / ".cache" / "clip",
        what="OpenAI's CLIP",
        source="openai/CLIP clip.py",
        instead=instead,
    )


def visual_state(
    source: str | Path, architecture: str, *, weights: Path | None = None
) -> dict[str, Tensor]:
    """The image tower of :func:`read_clip`, without its ``visual.`` prefix."""
    state = read_clip(source, architecture, weights=weights)
    prefix = "visual."
    visual = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not visual:
        raise ReidpipeError(
            f"found no visual.* keys in {source}; expected CLIP's {architecture}; "
            "type --pretrained openai"
        )
    return visual


def text_state(
    source: str | Path, architecture: str, *, weights: Path | None = None
) -> dict[str, Tensor]:
    """The text tower of :func:`read_clip`, ``token_embedding.weight`` included; its names have no
    prefix in CLIP's files.
    """
    state = read_clip(source, architecture, weights=weights)
    text = {k: v for k, v in state.items() if k.startswith(_TEXT)}
    if "token_embedding.weight" not in text:
        raise ReidpipeError(
            f"found no token_embedding.weight in {source}; expected CLIP's {architecture} with its "
            "text tower (re-identification checkpoints leave it out); type --pretrained openai"
        )
    return text
