"""Checkpoints of OSNet from torchreid (github.com/KaiyangZhou/deep-person-reid, models/osnet.py and
models/osnet_ain.py).
"""

from __future__ import annotations

from torch import nn

from pipeline.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.engine.checkpoint import load_strict, shape_of
from reid_train.exchange.formats.imported import (
    Imported,
    PublishedFile,
    State,
    check_kind,
    model_spec,
)
from reid_train.models.deployable import build_model
from reid_train.models.heads import LinearClassifier
from reid_train.models.osnet import ConvNorm, LightConv, OmniScaleBlock, OSNet

_WIDTHS = {16: "x0.25", 32: "x0.5", 48: "x0.75", 64: "x1.0"}
_TRUNKS = (
    *(f"osnet-{width}" for width in _WIDTHS.values()),
    "osnet-ibn-x1.0",
    *(f"osnet-ain-{width}" for width in _WIDTHS.values()),
)


def read(
    state: State,
    source: str,
    *,
    input_size: tuple[int, int] = (256, 128),
    architecture: str | None = None,
    distance: str | None = None,
) -> Imported:
    """OSNet of any width, IBN or AIN, told by the file's shapes and keys; ``architecture`` makes
    sure of it ("osnet-x0.25", or torchreid's "osnet_x0_25").

    distance: None is the model zoo's: Euclidean on raw features, cosine for AIN. (The paper of 2021
    compares all of them by cosine across data sets; ``distance`` "cosine" does.) Test images are
    resized bilinearly. A file may lack the classifier: retrieval does without.
    """
    check_kind(state, source, "conv1.conv.weight", "OSNet of torchreid")
    trunk = _trunk(state, source)
    wanted = None if architecture is None else _name(architecture)
    if wanted not in (None, trunk):
        raise ReidpipeError(
            f"found {trunk} in {source}; expected {wanted}, as --set architecture says; "
            "leave that out"
        )
    spec = model_spec(
        trunk,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        input_size=input_size,
        distance=distance or ("cosine" if "-ain-" in trunk else "euclidean"),
    )
    model = build_model(spec)
    network = model.trunk
    assert isinstance(network, OSNet)
    heads: dict[str, nn.Module] = {}
    parts: dict[str, nn.Module] = {}
    if "classifier.weight" in state:
        classes, dim = shape_of(state, "classifier.weight", source, 2)
        heads["embedding"] = head = LinearClassifier(dim=dim, classes=classes, bias=True, std=0.01)
        parts["classifier"] = head.classifier
    file = PublishedFile(_published(network, listed="-ain-" in trunk), **parts)
    load_strict(file, state, source=source)
    return Imported(spec, model, heads)


def _trunk(state: State, source: str) -> str:
    """Name of the trunk that a file holds, from the channels of its stem and from its keys."""
    channels = shape_of(state, "conv1.conv.weight", source, 4)[0]
    listed = any(key.startswith("conv2.0.conv2.") for key in state)
    kind = "ain-" if listed else "ibn-" if any(".IN." in key for key in state) else ""
    trunk = f"osnet-{kind}{_WIDTHS.get(channels, '')}"
    if trunk not in _TRUNKS:
        what = f"OSNet-{kind[:-1].upper()}" if kind else "OSNet"
        raise ReidpipeError(
            f"found {what} with {channels} channels in the first layer of {source}; expected one "
            f"of {', '.join(_TRUNKS)}; give a file of torchreid's model zoo"
        )
    return trunk


def _name(architecture: str) -> str:
    name = architecture.replace("_0_", "_0.").replace("x0_", "x0.").replace("x1_", "x1.")
    name = name.replace("_", "-")
    if name not in _TRUNKS:
        raise ReidpipeError(
            f"found architecture '{architecture}'{nearest(name, _TRUNKS)}; expected one of "
            f"{', '.join(_TRUNKS)}; leave it out: the file says which"
        )
    return name


def _published(network: OSNet, *, listed: bool) -> PublishedFile:
    """The network under torchreid's names. listed: as in models/osnet_ain.py, where streams are in
    a list and a transition stands beside its stage, not at the end of it.
    """
    parts: dict[str, nn.Module] = {"conv1": _unit(network.stem), "fc": network.fc}
    for number, (stage, transition) in enumerate(
        zip(network.stages, network.transitions, strict=True), 2
    ):
        blocks: list[nn.Module] = [_block(block, listed=listed) for block in stage.children()]
        last = _unit(transition)
        if number == 4:
            parts["conv5"] = last
        elif listed:
            parts[f"pool{number}"] = nn.Sequential(last)
        else:
            blocks.append(nn.Sequential(last))
        parts[f"conv{number}"] = nn.Sequential(*blocks)
    return PublishedFile(**parts)


def _block(block: nn.Module, *, listed: bool) -> PublishedFile:
    assert isinstance(block, OmniScaleBlock)
    streams = [[_light(layer) for layer in stream.children()] for stream in block.streams]
    parts: dict[str, nn.Module] = {
        "conv1": _unit(block.reduce),
        "gate": PublishedFile(fc1=block.gate.reduced, fc2=block.gate.gates),
        "conv3": _unit(block.expand),
    }
    if listed:
        rows = [PublishedFile(layers=nn.Sequential(*layers)) for layers in streams]
        parts["conv2"] = nn.ModuleList(rows)
    else:
        parts["conv2a"] = streams[0][0]
        rest = zip("bcd", streams[1:], strict=True)
        parts |= {f"conv2{letter}": nn.Sequential(*layers) for letter, layers in rest}
    if isinstance(block.shortcut, ConvNorm):
        parts["downsample"] = _unit(block.shortcut)
    for norm in (block.inside, block.after):
        if isinstance(norm, nn.InstanceNorm2d):
            parts["IN"] = norm
    return PublishedFile(**parts)


def _unit(unit: nn.Module) -> PublishedFile:
    assert isinstance(unit, ConvNorm)
    return PublishedFile(conv=unit.conv, bn=unit.norm)


def _light(layer: nn.Module) -> PublishedFile:
    assert isinstance(layer, LightConv)
    return PublishedFile(conv1=layer.pointwise, conv2=layer.depthwise, bn=layer.norm)
