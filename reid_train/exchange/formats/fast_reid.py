"""Checkpoints of fast-reid (github.com/JDAI-CV/fast-reid): ResNet with bottlenecks and one head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from pipeline.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import load_strict, shape_of
from reid_train.exchange.formats.imported import (
    Imported,
    PublishedFile,
    State,
    check_kind,
    model_spec,
)
from reid_train.models import COSINE
from reid_train.models.deployable import build_model
from reid_train.models.heads import LinearClassifier
from reid_train.models.strong_baseline import InstanceBatchNorm, NonLocal, StrongBaseline

# What other networks of fast-reid have in their keys, and what they are called there.
_OTHERS = {
    "b1_head.": "MGN",
    "b1.": "MGN",
    ".se.": "squeeze-and-excitation",
    "backbone.conv1.0.": "ResNeSt",
    "backbone.conv1.conv.": "OSNet",
    "backbone.layer1.0.conv2.conv.": "ResNeSt",
    "backbone.cls_token": "a ViT",
    "backbone.s1.": "RegNet",
    "backbone.features.": "MobileNet or ShuffleNet",
}


def read(
    state: State,
    source: str,
    *,
    input_size: tuple[int, int] | None = None,
    distance: str = COSINE,
) -> Imported:
    """BoT, AGW or SBS on ResNet-50 or 101, with IBN or without, told by the file's keys. Retrieval
    reads the feature after the BNNeck, which fast-reid compares by cosine, and resizes test images
    bicubically.

    input_size: None is 384x128 for a file with non-local blocks and a learnt p (SBS), 256x128 for
    any other; the file does not say. (AGW of release 0.1 cannot be told from SBS: give it.) A file
    of release 0.1 (``heads.bnneck``), as all of its model zoo, has the padded max pool of that
    time. Non-local blocks without a p are AGW's, with GeM at p = 3.
    """
    others = (name for start, name in _OTHERS.items() if any(start in key for key in state))
    if (other := next(others, None)) is not None:
        raise ReidpipeError(
            f"found {other} of fast-reid in {source}; expected BoT, AGW or SBS on ResNet; "
            "give the file of such a one"
        )
    what = "ResNet-50 of fast-reid"
    check_kind(state, source, "backbone.conv1.weight", what)
    check_kind(state, source, "backbone.layer1.0.conv3.weight", f"{what}, with bottlenecks")
    non_local = [_count(state, f"backbone.NL_{number}.") for number in (1, 2, 3, 4)]
    learnt = "heads.pool_layer.p" in state
    pooling = "gem" if learnt else "gem-3" if any(non_local) else "average"
    early = "heads.bnneck.weight" in state
    spec = model_spec(
        "strong-resnet50",
        mean=_constants(state, "pixel_mean", IMAGENET_MEAN),
        std=_constants(state, "pixel_std", IMAGENET_STD),
        input_size=input_size or ((384, 128) if learnt and any(non_local) else (256, 128)),
        distance=distance,
        layers=[_count(state, f"backbone.layer{number}.") for number in (1, 2, 3, 4)],
        ibn=any(".bn1.IN." in key for key in state),
        non_local=non_local,
        pooling=pooling,
        padded_stem=early,
    )
    model = build_model(spec)
    trunk = model.trunk
    assert isinstance(trunk, StrongBaseline)
    parts: dict[str, nn.Module] = {"pool_layer": PublishedFile(trunk.gem)} if learnt else {}  # type: ignore[dict-item]
    parts["bnneck" if early else "bottleneck"] = trunk.neck if early else nn.Sequential(trunk.neck)
    heads: dict[str, nn.Module] = {}
    merged: list[nn.Module] = []
    for key, name in (("heads.classifier.weight", "classifier"), ("heads.weight", "")):
        if key in state:
            classes, dim = shape_of(state, key, source, 2)
            heads["embedding"] = head = LinearClassifier(dim=dim, classes=classes)
            if name:
                parts[name] = head.classifier
            else:
                merged.append(head.classifier)
    file = PublishedFile(backbone=_backbone(trunk), heads=PublishedFile(*merged, **parts))
    given = {key: value for key, value in state.items() if not key.startswith("pixel_")}
    load_strict(file, given, source=source)
    return Imported(spec, model, heads, test_filter="bicubic")


def _count(state: State, prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def _constants(state: State, key: str, usual: Sequence[float]) -> list[float]:
    """Per RGB channel in 0..1; fast-reid's are of pixels in 0..255, the same to within rounding."""
    given: Tensor | None = state.get(key)
    if given is None or given.numel() != 3:
        return list(usual)
    found = [float(value) / 255 for value in given.flatten()]
    close = all(abs(a - b) < 1e-5 for a, b in zip(found, usual, strict=True))
    return list(usual) if close else found


def _backbone(trunk: StrongBaseline) -> PublishedFile:
    parts: dict[str, nn.Module] = {"conv1": trunk.conv1, "bn1": trunk.bn1}
    for number, (stage, added) in enumerate(zip(trunk.stages, trunk.non_local, strict=True), 1):
        parts[f"layer{number}"] = nn.Sequential(*(_block(block) for block in stage.children()))
        parts[f"NL_{number}"] = nn.ModuleList(_non_local(block) for block in added.children())
    return PublishedFile(**parts)


def _block(block: nn.Module) -> nn.Module:
    assert isinstance(block, Bottleneck)
    norm = block.bn1
    if not isinstance(norm, InstanceBatchNorm):
        return block
    renamed = PublishedFile(block)
    renamed.bn1 = PublishedFile(IN=norm.instance, BN=norm.batch)
    return renamed


def _non_local(block: nn.Module) -> nn.Module:
    assert isinstance(block, NonLocal)
    return PublishedFile(g=block.value, theta=block.query, phi=block.key, W=block.out)
