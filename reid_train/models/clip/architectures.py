"""The architectures of open_clip by name: the sizes of their towers, as ours take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.artifacts.atomic import read_json
from pipeline.terminal.errors import ReidpipeError, nearest

_VOCABULARY = 49408
_PARTS = {"embed_dim", "vision_cfg", "text_cfg"}
_SIZES = {
    "vision_cfg": {"layers", "width", "head_width", "patch_size", "image_size", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
# Entries of open_clip's configurations that make a tower another network than CLIP's own.
_REASONS = {
    "timm_model_name": "a network of timm (take trunk timm/NAME)",
    "hf_model_name": "a text encoder of Hugging Face",
    "attentional_pool": "CoCa's pooling",
    "embed_cls": "CoCa's text tower",
    "hf_tokenizer_name": "another tokeniser",
}


def image_sizes(architecture: str) -> dict[str, Any]:
    """Sizes of an image tower: options of ``ClipVit``, or of ``ClipResNet`` when ``layers`` is a
    list. Raises ReidpipeError for an architecture that open_clip does not have or whose image tower
    is neither.
    """
    config = _config(architecture)
    vision = config["vision_cfg"]
    _check(architecture, "image", "vision_cfg", vision)
    width, head = vision["width"], vision.get("head_width", 64)
    if isinstance(vision["layers"], list):
        sizes = {"layers": tuple(vision["layers"]), "heads": width * 32 // head}
    else:
        sizes = {
            "layers": vision["layers"],
            "heads": width // head,
            "patch": vision["patch_size"],
            "mlp_ratio": vision.get("mlp_ratio", 4.0),
        }
    return {"width": width, **sizes, "output_dim": config["embed_dim"]}


def text_sizes(architecture: str) -> dict[str, Any]:
    """Sizes of a text tower, options of ``ClipText``. Raises ReidpipeError as ``image_sizes``, and
    where the tokens are not CLIP's.
    """
    config = _config(architecture)
    text = config["text_cfg"]
    _check(architecture, "text", "text_cfg", text)
    if text.get("vocab_size", _VOCABULARY) != _VOCABULARY or text.get("mlp_ratio", 4.0) != 4.0:
        raise _unlike(architecture, "text", "another vocabulary")
    return {
        "width": text["width"],
        "layers": text["layers"],
        "heads": text["heads"],
        "output_dim": config["embed_dim"],
        "context": text.get("context_length", 77),
    }


def quick_gelu(architecture: str) -> bool:
    """Whether the architecture has CLIP's first approximation of GELU."""
    return bool(_config(architecture).get("quick_gelu", False))


def _config(architecture: str) -> Mapping[str, Any]:
    if (path := _files().get(architecture)) is not None:
        config = read_json(path)
        if config.keys() >= _PARTS:
            return config
    # One that was added, or none.
    from open_clip import get_model_config, list_models

    known = list_models()
    if architecture not in known:
        raise ReidpipeError(
            f"found architecture '{architecture}', which open_clip does not have"
            f"{nearest(architecture, known)}; expected one of its {len(known)}; type "
            'python -c "import open_clip; print(open_clip.list_models())"'
        )
    config = get_model_config(architecture)
    assert config is not None
    return config


@cache
def _files() -> dict[str, Path]:
    """open_clip's configurations, which it reads itself only where all of it is imported."""
    spec = find_spec("open_clip")
    places = (spec.submodule_search_locations if spec is not None else None) or ()
    return {
        path.stem: path for place in places for path in Path(place).glob("model_configs/*.json")
    }


def _check(architecture: str, tower: str, part: str, given: Iterable[str]) -> None:
    others = sorted(set(given) - _SIZES[part])
    if others:
        reasons = [_REASONS[name] for name in others if name in _REASONS]
        raise _unlike(architecture, tower, reasons[0] if reasons else ", ".join(others))


def _unlike(architecture: str, tower: str, reason: str) -> ReidpipeError:
    plain = "a ViT or a ResNet of CLIP" if tower == "image" else "CLIP's own text tower"
    return ReidpipeError(
        f"found architecture '{architecture}', whose {tower} tower has {reason}; expected {plain}; "
        "type one like ViT-B-16, ViT-L-14 or RN50"
    )
