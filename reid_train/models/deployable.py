"""The deployable model: pixels in 0..1 in, retrieval features out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.plugins.options import accepted, check_values
from pipeline.terminal.errors import ReidpipeError, nearest
from reid_train.engine.arithmetic import normalised, restore
from reid_train.models import COSINE, DISTANCES, STARTS, TRUNKS

log = logging.getLogger(__name__)


class ReidModel(nn.Module):
    """A trunk with its own normalisation constants, so that nobody can feed it the wrong ones.

    ``forward(images N,3,H,W float RGB in 0..1)`` gives the method's retrieval feature N,D, not
    normalised. Images must already be ``input_size`` (H, W): resizing belongs to the data side,
    because methods differ in the filter. No classifier here: that part is training's.

    ``distance`` is how its features are compared: ``cosine``, or ``euclidean`` of the features as
    they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        input_size: tuple[int, int],
        distance: str = COSINE,
    ) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ReidpipeError(
                f"found distance '{distance}'{nearest(distance, DISTANCES)} of a model; "
                f"expected {' or '.join(DISTANCES)}; correct it"
            )
        self.trunk = trunk
        self.distance = distance
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self._constants = {"mean": tuple(mean), "std": tuple(std)}
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(tuple(std)).view(1, 3, 1, 1))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ReidModel:
        """Where torch changes type or device. In float64 the constants of the normalisation have
        more digits than float32 kept.
        """
        super()._apply(fn, recurse)
        for name, values in self._constants.items():
            restore(getattr(self, name), values)
        return self

    @property
    def side_tables(self) -> dict[str, int]:
        """Side information that the trunk has a table of -> how many values the table knows:
        ``camids`` (its ``cameras``) and ``views``. What is beyond it has no row there.
        """
        trunk = getattr(self.trunk, "trunk", self.trunk)  # beneath a neck
        counts = {"camids": getattr(trunk, "cameras", 0), "views": getattr(trunk, "views", 0)}
        return {name: count for name, count in counts.items() if count}

    def leave_out_tables(self) -> None:
        """Forget the trunk's tables: ids that are given change nothing from now on."""
        trunk = getattr(self.trunk, "trunk", self.trunk)
        for name in ("cameras", "views"):
            if getattr(trunk, name, 0):
                setattr(trunk, name, 0)

    def features(
        self, images: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Every named feature of the trunk, each N,D; ``embedding`` is the one to search with.

        Without ids no row of a trunk's table is added. Raises ``ValueError`` when the images are
        not floats N,3,H,W of ``input_size``, and in eval mode for ids that are in no table.
        """
        images = normalised(images, self.mean, self.std, self.input_size)
        if not self.training and not torch.compiler.is_exporting():
            for name, count in self.side_tables.items():
                _check_ids(name, camids if name == "camids" else views, count)
        return self.trunk(images, camids=camids, views=views)

    def forward(
        self, images: Tensor, camids: Tensor | None = None, views: Tensor | None = None
    ) -> Tensor:
        return self.features(images, camids, views)["embedding"]


def build_model(
    spec: Mapping[str, Any], *, pretrained: str = "none", weights: Path | None = None
) -> ReidModel:
    """The model, freshly initialised, that ``model.json`` describes under ``model``:
    ``{"trunk": name, "options": {...}, "mean": [3], "std": [3], "input_size": [H, W]}``, and
    ``"distance"`` where it is not the cosine.

    ``options`` are the trunk's keyword arguments beside ``input_size``. Weights are drawn from
    torch's generator: seed it around this call. ``pretrained`` is "none", a name of published
    weights that the trunk can start from (``STARTS``, kept in the folder ``weights`` or where their
    library keeps them) or a file of such weights, and no part of the description: a trained model
    brings its own weights. Raises ReidpipeError for an unknown trunk and for weights it cannot
    take.
    """
    name = spec["trunk"]
    TRUNKS.check(name, "model.trunk")
    height, width = spec["input_size"]
    options = dict(spec.get("options") or {})
    for option in sorted({"input_size", "pretrained", "weights"} & set(options)):
        raise ReidpipeError(
            f"found option 'model.options.{option}'; expected input.size, or --pretrained and what "
            "it names; remove it"
        )
    factory = TRUNKS[name]
    check_values(factory, options, "model.options")
    if pretrained != "none":
        check_start(name, pretrained)
        given = {"pretrained": pretrained, "weights": weights}
        options |= {key: value for key, value in given.items() if _takes(factory, key)}
    try:
        trunk = factory(input_size=(height, width), **options)
    except TypeError as error:
        # What a trunk hands on to another class cannot be read off its signature.
        if "unexpected keyword argument" not in str(error):
            raise
        option = str(error).rsplit("'", 2)[-2]
        raise ReidpipeError(
            f"found option 'model.options.{option}', which trunk '{name}' does not have; "
            "expected one of its keyword arguments; correct or remove it"
        ) from error
    if "embedding" not in getattr(trunk, "feature_dims", {}):
        raise ReidpipeError(
            f"found trunk '{name}' without feature_dims['embedding']; expected the length of each "
            "of its features by name, 'embedding' for retrieval among them; add it to the plugin"
        )
    _compare_colours(trunk, spec, pretrained)
    return ReidModel(
        trunk,
        mean=spec["mean"],
        std=spec["std"],
        input_size=(height, width),
        distance=spec.get("distance") or COSINE,
    )


def _check_ids(name: str, ids: Tensor | None, count: int) -> None:
    """Raise ValueError for a row that a table of ``count`` rows does not have: an index from its
    end would be another's.
    """
    if ids is not None and len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        wrong = next(int(value) for value in ids if not 0 <= int(value) < count)
        raise ValueError(
            f"found {name} {wrong}; this model has a table of {count} (0 to {count - 1}), those of "
            f"the set it was trained on; leave {name} out for images of another set"
        )


def _takes(factory: Callable[..., Any], name: str) -> bool:
    known = accepted(factory)
    return known is None or name in known


def check_start(name: str, pretrained: str) -> None:
    """Raise ReidpipeError when the trunk ``name`` cannot start from ``pretrained``. A plugin's can
    from whatever it makes of the text, if its signature asks for it.
    """
    if not TRUNKS.owns(name) and _takes(TRUNKS[name], "pretrained"):
        return
    usual = STARTS.get(name) or STARTS.get(TRUNKS.family(name) or "", ())
    published = {start.partition(":")[0] for ways in STARTS.values() for start in ways}
    kind = pretrained.partition(":")[0]
    if not usual or (kind in published and kind not in {w.partition(":")[0] for w in usual}):
        ways = " or ".join(usual) or "random"
        raise ReidpipeError(
            f"found pretrained {pretrained} for trunk '{name}', which starts from {ways} weights; "
            f"expected {f'{ways}, a file or ' if usual else ''}none; "
            f"type --pretrained {usual[0] if usual else 'none'}"
        )


def _compare_colours(trunk: nn.Module, spec: Mapping[str, Any], pretrained: str) -> None:
    """Warn when weights from a library have seen images of other means and deviations than the
    model will: they start all the same, and worse than they could.
    """
    colours = getattr(trunk, "colours", None)
    if colours is None or pretrained == "none" or Path(pretrained).is_file():
        return
    own, given = [*colours[0], *colours[1]], [*spec["mean"], *spec["std"]]
    if any(abs(one - other) > 1e-3 for one, other in zip(own, given, strict=True)):
        log.warning(
            "found input.mean %s and input.std %s; weights %s have seen mean %s and std %s",
            *(given[:3], given[3:], pretrained, own[:3], own[3:]),
        )
