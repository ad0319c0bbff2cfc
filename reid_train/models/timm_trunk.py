"""Any model of timm as a trunk, by name: ``trunk: timm/resnet18``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.engine.checkpoint import read_state_dict
from reid_train.models.heads import BNNeck
from reid_train.models.installed import INSTALLED, as_timm, check_trunk, installed_file

PREFIX = "timm/"
# Arguments of timm.create_model that are the trunk's to give: they would change what it is, or read
# files that no key of an artifact knows.
_OURS = {
    "num_classes", "pretrained", "features_only", "in_chans", "img_size", "checkpoint_path",
    "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn",
    "pretrained_model_args", "cache_dir", "out_indices", "feature_cls", "device", "dtype",
}  # fmt: skip
_STRIDES = (4, 8, 16)  # what fusion heads read of a network with stages


class TimmTrunk(nn.Module):
    """A model of timm without its classifier: normalised images N,3,H,W -> ``global`` N,D (what its
    classifier would read), ``embedding`` N,D (after a BNNeck) and, where the model gives maps,
    ``levels`` with ``level_dims`` channels. Of a network with stages these are the last maps at
    strides 4, 8 and 16, those of the three that it has; of one whose maps all have one stride, as a
    ViT, it is the last, after its norm.

    name: timm's, without ``timm/``. It enters the key of a model as typed: with its tag
    (``resnet18.a1_in1k``) the key says which weights ``imagenet`` are; without, they are timm's
    default for the version installed. pretrained: "none", "imagenet" (through timm's own loader and
    caches), a package with weights of this network (``installed.INSTALLED``) or a file of a timm
    state dict, whose classifier is left out; positions are resampled by timm. options: keyword
    arguments of ``timm.create_model`` (``drop_path_rate``, ...).

    ``colours``: mean and std, RGB in 0..1, of the images that published weights have seen. Raises
    ReidpipeError for what timm does not have, cannot make, cannot load, or cannot make at
    ``input_size``.
    """

    level_dims: tuple[int, ...]

    def __init__(
        self,
        name: str,
        *,
        input_size: tuple[int, int] = (256, 128),
        pretrained: str = "none",
        stride: int | None = None,
        stripes: int = 1,
        dim: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network = _network(name, input_size, pretrained, dict(options or {}))
        # The whole model is made, since "imagenet" weights are loaded strictly, classifier too.
        network.reset_classifier(0)
        self.colours = tuple(network.pretrained_cfg[key] for key in ("mean", "std"))
        if (package := INSTALLED.get(pretrained)) is not None:
            self.colours = (package.mean, package.std)
        # A file's weights would stay, copied wherever the module is.
        network.pretrained_cfg.pop("state_dict", None)
        self.reads: list[int] = []
        self.one_stride = False  # whether all maps have one stride
        self.stripes = stripes
        self.end: int | None = None  # the map that stripes are cut from
        self.takes_maps = hasattr(network, "forward_intermediates")
        banded = (stride, stripes, dim) != (None, 1, None)
        if banded and not hasattr(network, "prune_intermediate_layers"):
            raise ReidpipeError(
                f"found model.options.stride, stripes or dim for trunk '{PREFIX}{name}', which "
                "gives no maps; expected none of them; remove them"
            )
        length = self._look(name, input_size, stride, banded)
        self.project = nn.Identity()
        if dim is not None:
            if dim < 1:
                raise ReidpipeError(f"found model.options.dim {dim}; expected 1 or more")
            self.project, length = nn.Linear(length, dim, bias=False), dim
        self.feature_dims = {"global": length, "embedding": length}
        self.neck = BNNeck(length)

    def _look(
        self, name: str, input_size: tuple[int, int], stride: int | None, banded: bool
    ) -> int:
        """Which maps there are and how many channels they have, and the length of the feature: by
        one image, since what timm says of its models differs from one to the next.
        """
        training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad():
                image = torch.zeros(1, 3, *input_size)
                if self.takes_maps:
                    _, maps = self.network.forward_intermediates(image)
                    self._choose(maps, input_size)
                    if banded:
                        self._end_at(name, maps, input_size[0], stride)
                feature, _ = self._run(image)
        except ReidpipeError:
            raise
        except Exception as error:  # of timm's many networks each refuses sizes in its own way
            raise ReidpipeError(
                f"found input.size {list(input_size)} and options that trunk '{PREFIX}{name}' "
                f"cannot take ({_line(error)}); expected a size like its own "
                f"{_native(self.network)}; type --set input.size=[H,W]"
            ) from error
        self.network.train(training)
        if feature.ndim != 2:
            raise ReidpipeError(
                f"found features of shape {list(feature.shape)} from trunk '{PREFIX}{name}'; "
                "expected one vector per image; remove model.options.global_pool"
            )
        return feature.shape[1]

    def _choose(self, maps: list[Tensor], input_size: tuple[int, int]) -> None:
        strides = [round(input_size[0] / m.shape[2]) for m in maps]
        last = {stride: number for number, stride in enumerate(strides)}
        self.one_stride = len(last) == 1
        if self.one_stride:
            # A fusion head for tokens asks where they stand.
            self.stride = self.patch = strides[0]
        stages = [last[stride] for stride in _STRIDES if stride in last]
        self.reads = [len(maps) - 1] if self.one_stride or not stages else stages
        self.level_dims = tuple(maps[number].shape[1] for number in self.reads)

    def _end_at(self, name: str, maps: list[Tensor], height: int, stride: int | None) -> None:
        """Take the feature from the last map at ``stride`` and do without what comes after it."""
        last = {round(height / m.shape[2]): number for number, m in enumerate(maps)}
        if stride is not None and stride not in last:
            raise ReidpipeError(
                f"found model.options.stride {stride} for trunk '{PREFIX}{name}'; expected that of "
                f"one of its maps, {', '.join(map(str, last))}; type --set "
                f"model.options.stride={list(last)[-1]}"
            )
        self.end = len(maps) - 1 if stride is None else last[stride]
        rows = maps[self.end].shape[2]
        if not 0 < self.stripes <= rows:
            raise ReidpipeError(
                f"found model.options.stripes {self.stripes} for a map of {rows} rows; expected 1 "
                f"to {rows}; type --set model.options.stripes={rows}"
            )
        self.reads = [number for number in self.reads if number <= self.end]
        self.level_dims = self.level_dims[: len(self.reads)]
        self.network.prune_intermediate_layers([self.end], prune_head=True)

    def map(self, x: Tensor) -> Tensor:
        """The map that the feature is made of, of a ViT after its norm: N,3,H,W -> N,C,h,w. Only
        where ``takes_maps``.
        """
        last = 1 if self.end is None else [self.end]  # a number counts from the end
        (found,) = self._intermediates(x, last, intermediates_only=True)
        return found

    def _intermediates(self, x: Tensor, indices: int | list[int], **asked: bool) -> Any:
        """timm's own, of a ViT after its norm."""
        norm = {"norm": True} if self.one_stride else {}
        return self.network.forward_intermediates(x, indices=indices, **asked, **norm)

    def _run(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        if self.end is not None:
            indices = sorted({*self.reads, self.end})
            found = self._intermediates(x, indices, intermediates_only=True)
            bands = adaptive_avg_pool2d(found[-1], (self.stripes, 1))
            return bands.flatten(1), found[: len(self.reads)]
        if self.takes_maps:
            last, maps = self._intermediates(x, self.reads)
        else:
            last, maps = self.network.forward_features(x), []
        return self.network.forward_head(last, pre_logits=True), maps

    def forward(
        self, x: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        del camids, views
        feature, maps = self._run(x)
        feature = self.project(feature)
        found = {"global": feature, "embedding": self.neck(feature)}
        return {**found, "levels": maps} if self.takes_maps else found  # type: ignore[dict-item]


def timm_trunk(name: str) -> Callable[..., nn.Module]:
    """What makes the trunk ``timm/NAME``, with the arguments of every trunk; options that no other
    has are timm's.
    """

    def make(
        *,
        input_size: tuple[int, int] = (256, 128),
        pretrained: str = "none",
        weights: Path | None = None,
        stride: int | None = None,
        stripes: int = 1,
        dim: int | None = None,
        **options: Any,
    ) -> nn.Module:
        del weights  # timm and huggingface_hub have folders of their own
        return TimmTrunk(
            name.removeprefix(PREFIX),
            input_size=input_size,
            pretrained=pretrained,
            stride=stride,
            stripes=stripes,
            dim=dim,
            options=options,
        )

    return make


def check_name(name: str) -> None:
    """Raise ReidpipeError, naming the nearest, unless timm has a model ``name`` (without ``timm/``,
    with or without a tag). Nothing is made or downloaded.
    """
    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if not timm.is_model(architecture):
        raise ReidpipeError(
            f"found trunk '{PREFIX}{name}', which timm {timm.__version__} does not have"
            f"{nearest(architecture, known)}; expected one of its {len(known)} models; type "
            'python -c "import timm; print(timm.list_models())"'
        )
    tags = timm.list_models(f"{architecture}.*", include_tags=True)
    if tag and name not in tags:
        raise ReidpipeError(
            f"found tag '{tag}' for trunk '{PREFIX}{architecture}'{nearest(name, tags)}; expected "
            f"one of {', '.join(t.partition('.')[2] for t in tags) or 'none'}; correct or remove it"
        )


def _network(name: str, size: tuple[int, int], pretrained: str, options: dict[str, Any]) -> Any:
    check_name(name)
    for option in sorted(_OURS & set(options)):
        raise ReidpipeError(
            f"found option 'model.options.{option}' for trunk '{PREFIX}{name}', which reidpipe "
            "gives timm itself; expected others of timm.create_model; remove it"
        )
    if pretrained == "imagenet":
        if not getattr(timm.get_pretrained_cfg(name), "has_weights", False):
            raise ReidpipeError(
                f"found --pretrained imagenet for trunk '{PREFIX}{name}', for which timm has no "
                "weights; expected a file or none; type --pretrained none"
            )
        options["pretrained"] = True
    elif pretrained in INSTALLED:
        check_trunk(pretrained, f"{PREFIX}{name}")
        options |= _from_file(name, installed_file(pretrained))
    elif pretrained != "none":
        options |= _from_file(name, pretrained)
    make = partial(timm.create_model, name, **options)
    try:
        try:
            return make(img_size=size)
        except TypeError as error:
            # Networks of convolutions take any size, and no such argument.
            if "'img_size'" not in str(error):
                raise
            return make()
    except Exception as error:  # timm, its hubs and torch raise what they like
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            raise  # build_model names the option
        if pretrained == "none":
            raise ReidpipeError(
                f"found input.size {list(size)} and options that timm cannot make "
                f"'{name}' with ({_line(error)}); expected others; correct model.options or "
                "input.size"
            ) from error
        if pretrained == "imagenet":
            raise ReidpipeError(
                f"found no weights for trunk '{PREFIX}{name}' at {_place(name)} or in its cache "
                f"({_line(error)}); expected to download them there; type --pretrained FILE, or "
                "--pretrained none"
            ) from error
        raise ReidpipeError(
            f"found weights of another network in {pretrained} ({_line(error)}); expected those "
            f"of timm's '{name}'; give the file that belongs to it"
        ) from error


def _from_file(name: str, path: str | Path) -> dict[str, Any]:
    """Arguments with which timm loads the file as it does its own, strictly, into a model that has
    no classifier. Names of EfficientNet-Lite0's layers may be those of its package.
    """
    known = timm.get_pretrained_cfg(name)
    classifier = known.classifier if known is not None else None
    layers = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    left_out = tuple(f"{layer}." for layer in layers)
    state = {k: v for k, v in as_timm(read_state_dict(path)).items() if not k.startswith(left_out)}
    overlay = {"state_dict": state, "classifier": None}
    return {"pretrained": True, "num_classes": 0, "pretrained_cfg_overlay": overlay}


def _place(name: str) -> str:
    known = timm.get_pretrained_cfg(name)
    hub = getattr(known, "hf_hub_id", None)
    return f"huggingface.co/{hub}" if hub else str(getattr(known, "url", None) or "timm")


def _native(network: nn.Module) -> str:
    height, width = network.pretrained_cfg["input_size"][-2:]  # type: ignore[index]
    return f"[{height}, {width}]"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
