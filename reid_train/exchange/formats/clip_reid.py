"""Checkpoints of CLIP-ReID (Li et al. 2023) and of its baseline."""

from __future__ import annotations

from typing import Any

from torch import nn

from pipeline.images.normalisation import HALF, IMAGENET_MEAN, IMAGENET_STD
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_strict, shape_of
from reid_train.exchange.formats.imported import (
    Imported,
    PublishedFile,
    State,
    check_kind,
    model_spec,
)
from reid_train.models.clip.trunks import NeckedFeatures
from reid_train.models.clip.visual import token_grid
from reid_train.models.deployable import build_model
from reid_train.models.heads import NeckClassifier

_PERSON, _VEHICLE = (256, 128), (256, 256)


def read(
    state: State,
    source: str,
    *,
    input_size: tuple[int, int] | None = None,
    stride: int | None = None,
    sie_coefficient: float = 1.0,
    sie: str = "camera",
    views: int = 0,
    neck: str = "before",
) -> Imported:
    """The image branch of CLIP-ReID or its baseline, RN50 or ViT; prompts and text are training's.

    Widths and depths come from the file. ViT files are normalised by 0.5, RN50 files by ImageNet's
    constants: the authors use CLIP's own in neither.
    """
    # prompts and text tower serve training only; a baseline's file has neither
    state = {
        k: v for k, v in state.items() if not k.startswith(("prompt_learner.", "text_encoder."))
    }
    check_kind(state, source, "image_encoder.conv1.weight", "a file of CLIP-ReID")
    if "image_encoder.class_embedding" in state:
        spec = clip_vit(state, source, input_size, stride, sie_coefficient, sie, views)
    else:
        state.pop("cv_embed", None)  # the authors' RN50 makes the table and never reads it
        spec = _clip_resnet(state, source, input_size)
    if neck != "before":
        spec = {**spec, "options": {**spec["options"], "neck": neck}}
    model = build_model(spec)
    necked = model.trunk if isinstance(model.trunk, NeckedFeatures) else None
    trunk = necked.trunk if necked else model.trunk
    parts: dict[str, nn.Module] = {}
    heads: dict[str, nn.Module] = {}
    for feature, tail in (("feature", ""), ("projected", "_proj")):
        classes = shape_of(state, f"classifier{tail}.weight", source, 2)[0]
        head = NeckClassifier(dim=model.trunk.feature_dims[feature], classes=classes)  # type: ignore[index]
        if necked:
            head.bottleneck = getattr(necked, f"bottleneck{tail}")
        parts |= {f"bottleneck{tail}": head.bottleneck, f"classifier{tail}": head.classifier}
        heads[feature] = head
    load_strict(PublishedFile(trunk, **parts), state, source=source)
    return Imported(spec, model, heads)


def _layers(state: State, prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def _fit_grid(
    rows: int,
    source: str,
    patch: int,
    sizes: list[tuple[int, int]],
    strides: list[int],
) -> tuple[tuple[int, int], int]:
    """The first input size and stride whose token grid has ``rows`` positions."""
    for size in sizes:
        for stride in strides:
            height, width = token_grid(size, patch=patch, stride=stride)
            if height * width + 1 == rows:
                return size, stride
    raise ReidpipeError(
        f"found {rows} rows in positional_embedding of {source}; expected those of input size "
        f"{' or '.join(f'{h}x{w}' for h, w in sizes)} and stride "
        f"{' or '.join(map(str, strides))}; give input_size=(H, W) and stride"
    )


def clip_vit(
    state: State,
    source: str,
    input_size: tuple[int, int] | None,
    stride: int | None,
    sie_coefficient: float,
    sie: str,
    views: int,
) -> dict[str, Any]:
    """What ``build_model`` reads for the ViT of a state dict, sizes read off its shapes."""
    prefix = "image_encoder."
    rows = shape_of(state, f"{prefix}positional_embedding", source, 2)[0]
    width, _, patch, _ = shape_of(state, f"{prefix}conv1.weight", source, 4)
    size, stride = _fit_grid(
        rows,
        source,
        patch,
        [(input_size[0], input_size[1])] if input_size else [_PERSON, _VEHICLE],
        [stride] if stride else [16, 12],
    )
    table = shape_of(state, "cv_embed", source, 2)[0] if "cv_embed" in state else 0
    if sie == "camera-view" and (views < 1 or table % views):
        raise ReidpipeError(
            f"found {table} rows in cv_embed and views={views}; expected the number of views"
        )
    split: dict[str, dict[str, Any]] = {
        "camera": {"cameras": table},
        "view": {"views": table},
        "camera-view": {"cameras": table // max(views, 1), "views": views},
    }
    if sie not in split:
        raise ReidpipeError(f"found sie {sie!r}; expected one of {', '.join(split)}")
    return model_spec(
        "clip-vit-b16",
        mean=HALF,
        std=HALF,
        input_size=size,
        stride=stride,
        patch=patch,
        width=width,
        layers=_layers(state, f"{prefix}transformer.resblocks."),
        heads=width // 64,
        output_dim=shape_of(state, f"{prefix}proj", source, 2)[1],
        sie_coefficient=sie_coefficient,
        **(split[sie] if table else {}),
    )


def _clip_resnet(state: State, source: str, input_size: tuple[int, int] | None) -> dict[str, Any]:
    prefix = "image_encoder."
    rows = shape_of(state, f"{prefix}attnpool.positional_embedding", source, 2)[0]
    sizes = [(input_size[0], input_size[1])] if input_size else [_PERSON, _VEHICLE]
    size, _ = _fit_grid(rows, source, 16, sizes, [16])
    width = shape_of(state, f"{prefix}conv3.weight", source, 4)[0]
    return model_spec(
        "clip-rn50",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        input_size=size,
        layers=[_layers(state, f"{prefix}layer{i}.") for i in (1, 2, 3, 4)],
        width=width,
        heads=width // 2,
        output_dim=shape_of(state, f"{prefix}attnpool.c_proj.weight", source, 2)[0],
    )
